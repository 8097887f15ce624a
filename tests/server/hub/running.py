"""A hub that really listens: on a free port of the loopback, in a thread, with its data in a folder."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from commentary_hub_server.app import build_app, open_world
from commentary_hub_server.connections import Prompt
from commentary_hub_server.settings import Settings


class Hub:
    """A running hub; ``token(user)`` adds the user where needed."""

    def __init__(self, url, world):
        self.url, self.world = url, world

    def token(self, user, **settings):
        if self.world.directory.owner(user) is None:
            self.world.directory.add_user(user)
        return self.world.directory.create_token(user, **settings)


@contextmanager
def running(folder, port=0, **settings):
    settings = Settings(data_dir=folder, **settings)
    world = open_world(settings)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        build_app(settings, world), http=Prompt, log_level="error", access_log=False,
        forwarded_allow_ips=settings.proxy_hosts,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Hub(f"http://127.0.0.1:{listener.getsockname()[1]}", world)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        world.engine.dispose()
