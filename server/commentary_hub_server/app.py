"""The composition root: settings in, an application out. Nothing here decides anything."""

from __future__ import annotations

import ctypes
import gc
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError

from commentary_hub.errors import CommentaryHubError, UsageError
from commentary_hub_server.middleware import Bounded, Observed, prepare_logs
from commentary_hub_server.routes import catalogue as catalogue_routes
from commentary_hub_server.routes import hub, pages
from commentary_hub_server.routes import xet as xet_routes
from commentary_hub_server.routes.bodies import Awaited
from commentary_hub_server.rules.accounts import Directory
from commentary_hub_server.rules.catalogue import Catalogue
from commentary_hub_server.rules.membership import Membership, viewer_of
from commentary_hub_server.rules.repositories import (
    File,
    History,
    Indexer,
    Quota,
    Repositories,
    Repository,
    RepositoryShelf,
    object_key,
)
from commentary_hub_server.rules.uploads import Uploads
from commentary_hub_server.rules.xet import (
    DatabaseIndex,
    Scope,
    Signer,
    StoredXorbs,
    XetService,
    forget_file,
    from_text,
    has_file,
)
from commentary_hub_server.settings import Settings
from commentary_hub_server.store import Leases, Objects, connect, migrate, one_at_a_time, open_objects

_SHORTEST_SECRET = 32
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for its settings, from malloc.h
_KEPT_BYTES, _HEAP_BYTES = 64 << 20, 8 << 20
DESCRIPTION = "Commentaries of datasets: learn once, share, reuse. Speaks the Hugging Face Hub protocol."


@dataclass(frozen=True, slots=True)
class World:
    """The rules, put together over one database and one object store."""

    settings: Settings
    engine: Engine
    objects: Objects
    leases: Leases
    directory: Directory
    repositories: Repositories
    history: History
    uploads: Uploads
    quota: Quota
    catalogue: Catalogue
    shelf: RepositoryShelf
    models: RepositoryShelf
    xet: XetService
    signer: Signer
    secret: str


class _XetFiles:
    """Lets the history read files that lie in xorbs."""

    def __init__(self) -> None:
        self.service: XetService | None = None

    def read(self, repository: str, xet: str, start: int, length: int) -> Iterator[bytes | memoryview]:
        """See `XetFiles`."""
        assert self.service is not None
        return self.service.read_file(repository, xet, start, length)

    def has(self, connection: Connection, repository: str, xet: str) -> bool:
        """See `XetFiles`."""
        return has_file(connection, repository, from_text(xet))

    def forget(self, connection: Connection, repository: str, xet: str) -> None:
        """See `XetFiles`."""
        forget_file(connection, repository, from_text(xet))


def open_world(settings: Settings) -> World:
    """Open (and on the first start, make) everything in the data folder; raises `CommentaryHubError` in one line."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        secret = settings.secret or _secret(settings.data_dir / "secret")
    except OSError as error:
        raise CommentaryHubError(
            f"cannot write to {settings.data_dir}: {error.strerror}; choose another --data-dir", path=settings.data_dir
        ) from error
    if len(secret) < _SHORTEST_SECRET:
        raise UsageError(
            f"COMMENTARY_HUB_SECRET has {len(secret)} characters: give {_SHORTEST_SECRET} random ones or more"
        )
    engine = connect(settings.database)
    migrate(engine)
    objects = open_objects(settings.objects)
    directory, catalogue, leases = Directory(engine), Catalogue(engine), Leases(engine)
    with one_at_a_time(engine):
        catalogue.create()
    signer = Signer(secret.encode())

    def read(connection: Any, repository: Repository, file: File, limit: int) -> bytes:
        return history.read_in(connection, repository, file, limit)

    indexer = Indexer(catalogue, read)

    def limit(owner: str) -> int | None:
        account = directory.owner(owner)
        own = None if account is None else account.quota_bytes
        return (settings.quota_bytes if own is None else own) or None

    def lock(connection: Connection, repository: str) -> None:
        repositories.lock(connection, int(repository))

    def room(connection: Connection, repository: str) -> None:
        found = repositories.by_id(int(repository))
        if found is not None:
            quota.demand(found.owner, arriving=True, connection=connection)

    uploads, index = Uploads(objects, leases), DatabaseIndex(engine, lock, room)
    quota = Quota(engine, limit, index.held_bytes, uploads.pending_bytes)
    repositories, files = Repositories(engine, indexer, quota), _XetFiles()

    def may_use(scope: Scope, repository: str) -> bool:
        found, profile = repositories.by_id(int(repository)), directory.by_token_id(scope.token)
        if found is None or not profile.may_read(found.key, private=found.private):
            return False
        return not scope.writes or repository != scope.repo or profile.may_write(found.key)

    files.service = XetService(StoredXorbs(objects, leases), index, signer, may_use)
    history = History(engine, objects, leases, indexed=indexer, quota=quota, xet=files)
    shelf, models = (RepositoryShelf(repositories, history, kind) for kind in ("dataset", "model"))
    return World(
        settings, engine, objects, leases, directory, repositories, history, uploads, quota, catalogue, shelf, models,
        files.service, signer, secret,
    )  # fmt: skip


def _secret(path: Path) -> str:
    """The secret of this data folder, made once: a file appears whole or not at all, whoever starts beside us."""
    if not path.exists():
        handle, draft = tempfile.mkstemp(dir=path.parent)  # only its owner reads it
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            Path(draft).unlink()
    return path.read_text().strip()


def build_app(settings: Settings, world: World | None = None) -> FastAPI:
    """The application over ``settings``."""
    world = world or open_world(settings)
    doors = hub.Doors(
        world.repositories, world.history, world.directory, world.objects, world.xet, world.signer,
        world.uploads, world.quota, public_url=settings.public_url.rstrip("/"),
        accel_prefix=settings.accel_prefix or None,
        redirect_s=settings.redirect_s or None,
        spools=settings.data_dir,
    )  # fmt: skip
    app = FastAPI(title="Commentary Hub", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.world = world
    app.add_exception_handler(hub.Refused, lambda _request, error: hub.refusal(error))
    app.add_exception_handler(CommentaryHubError, lambda _request, error: hub.refusal(error))

    app.add_exception_handler(HTTPException, hub.http_refusal)
    app.add_exception_handler(RequestValidationError, hub.http_refusal)
    for unstorable in (UnicodeEncodeError, DataError):
        app.add_exception_handler(unstorable, hub.unstorable)

    def authorise(request: Request, kind: str, repo: str, permission: str) -> xet_routes.Allowed:
        owner, _, name = repo.rpartition("/")
        found = doors.repository(request, kind, owner, name, write=permission == "write")
        profile = doors.profile(request)
        user = profile.user.name if profile.user else ""
        return xet_routes.Allowed(user, str(found.id), profile.token_id, found.epoch)

    def admit(repository: str, more_bytes: int, what: str) -> None:
        found = world.repositories.by_id(int(repository))
        if found is not None:
            world.quota.demand(found.owner, more_bytes, arriving=what == "xorb")

    metrics = _add_health(app, world)
    membership = Membership(world.directory, world.repositories)
    secure = settings.secure_cookies or settings.public_url.startswith("https://")
    app.include_router(
        catalogue_routes.build_router(world.catalogue, world.shelf, lambda r: viewer_of(doors.profile(r)))
    )
    app.include_router(xet_routes.build_router(world.xet, authorise, admit, doors.base, doors.spools), tags=["xet"])
    app.include_router(hub.build_router(doors))
    app.include_router(
        pages.build_router(world.catalogue, world.shelf, world.models, membership, world.secret, secure=secure),
        include_in_schema=False,
    )
    app.add_middleware(Bounded, knows=lambda header: doors.bearer(header).user is not None)
    app.add_middleware(Awaited)
    app.add_middleware(Observed, metrics=metrics, rate_limit=settings.rate_limit)
    app.add_middleware(hub.raw_path_middleware)
    return app


def build_from_environment() -> FastAPI:
    """The application for one of several worker processes."""
    settings = Settings.from_environment()
    prepare_logs(as_json=settings.log_json)
    app = build_app(settings)
    settle()
    return app


def settle() -> None:
    """Prepare a process that serves and does nothing else.

    The garbage collector looks no more through what is there for good; and memory that one upload's pieces leave is
    kept for the next ones, where glibc would give it back and take it again, page by page.
    """
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MMAP_THRESHOLD, _HEAP_BYTES)


def _add_health(app: FastAPI, world: World) -> tuple[Counter, Histogram]:
    registry = CollectorRegistry()
    requests = Counter("hub_requests_total", "Requests", ["method", "status"], registry=registry)
    seconds = Histogram("hub_request_seconds", "Seconds until the reply begins", ["method"], registry=registry)

    @app.get("/healthz", tags=["health"], summary="The process answers")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], summary="Database and objects answer")
    def readyz() -> Response:
        try:
            with world.engine.execution_options(read_only=True).connect() as connection:
                connection.execute(text("SELECT 1"))
            world.objects.size(object_key("0" * 64))
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the answer is that we are not ready
            return JSONResponse({"status": "not ready", "error": type(error).__name__}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        counted = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # what all workers counted
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return Response(generate_latest(counted), media_type=CONTENT_TYPE_LATEST)

    return requests, seconds
