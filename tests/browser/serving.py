"""A site that really listens, and a browser to look at it with."""

import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def listening(app):
    """The address of ``app`` on a free port of the loopback, while the block runs."""
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        door.close()


def sign_in(page, base, name):
    """Sign a user of the seeded world in: the password is the name twice."""
    page.goto(f"{base}/sign-in")
    page.fill("#name", name)
    page.fill("#password", name * 2)
    page.click("main button")
    page.wait_for_url(f"{base}/")
