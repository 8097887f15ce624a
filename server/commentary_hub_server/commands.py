"""The hub's commands: joined to the command line by the entry point ``commentary_hub.commands``."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from commentary_hub.errors import CommentaryHubError, HubNotFound

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder of the hub's data (COMMENTARY_HUB_DATA_DIR, default hub-data).", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password for the pages from standard input.")
]


def register(app: typer.Typer) -> None:
    """Add the hub's commands to the command line."""
    app.command()(serve)
    users = typer.Typer(help="Users of the hub.", no_args_is_help=True)
    users.command("add")(user_add)
    users.command("list")(user_list)
    users.command("quota")(user_quota)
    users.command("password")(user_password)
    users.command("disable")(user_disable)
    orgs = typer.Typer(help="Organisations of the hub.", no_args_is_help=True)
    orgs.command("add")(org_add)
    orgs.command("remove")(org_remove)
    tokens = typer.Typer(help="Tokens of the hub's users.", no_args_is_help=True)
    tokens.command("create")(token_create)
    tokens.command("list")(token_list)
    tokens.command("revoke")(token_revoke)
    app.add_typer(users, name="user")
    app.add_typer(orgs, name="org")
    app.add_typer(tokens, name="token")
    app.command()(fsck)
    app.command()(gc)
    app.command()(backup)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    data_dir: DataDir = None,
    with_cards: Annotated[
        Path | None, typer.Option("--with-cards", help="Publish the artefacts in this folder under the user 'cards'.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer; any of them serves anybody.")] = 1,
) -> None:
    """Serve the hub: the Hugging Face Hub protocol, the catalogue, the pages."""
    import uvicorn

    from commentary_hub_server.app import build_app, open_world, settle
    from commentary_hub_server.connections import Prompt
    from commentary_hub_server.middleware import prepare_logs

    settings = _settings(data_dir)
    listener = _listen(host, port)
    world = open_world(settings)
    _greet(world)
    if with_cards is not None:
        from commentary_hub_server.cards import publish

        typer.echo(f"published {publish(world, with_cards)} cards")
    prepare_logs(as_json=settings.log_json)
    address = f"http://{'localhost' if host in {'0.0.0.0', '::'} else host}:{listener.getsockname()[1]}"  # noqa: S104 - compared
    config = uvicorn.Config(
        build_app(settings, world) if workers == 1 else "commentary_hub_server.app:build_from_environment",
        factory=workers > 1, workers=workers, http=Prompt, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=settings.shutdown_s, forwarded_allow_ips=settings.proxy_hosts,
    )  # fmt: skip
    typer.echo(f"Commentary Hub on {address} (data in {settings.data_dir})")
    sys.stdout.flush()
    if workers == 1:
        settle()
        uvicorn.Server(config).run(sockets=[listener])
    else:
        _serve_together(config, settings, world, listener)


def _serve_together(config: Any, settings: Any, world: Any, listener: socket.socket) -> None:
    """Several processes on one socket; each reads the settings from its environment and has no state of its own."""
    from uvicorn.supervisors import Multiprocess

    world.engine.dispose()  # connections are not shared with the processes that start now
    os.environ["COMMENTARY_HUB_DATA_DIR"] = str(settings.data_dir)
    with tempfile.TemporaryDirectory(prefix="commentary-hub-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where the workers add up what they count
        Multiprocess(config, sockets=[listener]).run()


def user_add(
    name: Annotated[str, typer.Argument(help="The user's name.", show_default=False)],
    token: Annotated[str | None, typer.Option(help="Give them this token (default: one is made).")] = None,
    email: Annotated[str, typer.Option(help="Their address.")] = "",
    full_name: Annotated[str, typer.Option("--fullname", help="Their name in full.")] = "",
    password_stdin: PasswordStdin = False,
    admin: Annotated[bool, typer.Option("--admin", help="May administer everything.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add a user and print a write token; it cannot be shown again."""
    password = _password_line() if password_stdin else None
    directory = _directory(data_dir)
    user = directory.add_user(name, email=email, full_name=full_name, password=password, is_admin=admin)
    secret = directory.create_token(user.name, label="first token", secret=token)
    _answer({"user": user.name, "token": secret}, f"added {user.name}; token (shown once): {secret}", as_json=as_json)


def user_list(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List users and organisations."""
    owners = _directory(data_dir).owners()
    rows = [
        {"name": one.name, "kind": one.kind, "admin": one.is_admin, "quota_bytes": one.quota_bytes} for one in owners
    ]
    _answer({"owners": rows}, "\n".join(f"{one.name} ({one.kind})" for one in owners), as_json=as_json)


def user_quota(
    name: Annotated[str, typer.Argument(help="A user or an organisation.", show_default=False)],
    size: Annotated[
        int | None, typer.Argument(help="Bytes their repositories may hold; 0: no limit; none: the default.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Set how much the repositories of a user or an organisation may hold."""
    _directory(data_dir).set_quota(name, size)
    said = "the server's default" if size is None else "no limit" if size == 0 else f"{size:,} bytes"
    _answer({"owner": name, "quota_bytes": size}, f"quota of {name}: {said}", as_json=as_json)


def user_password(
    name: Annotated[str, typer.Argument(help="The user's name.", show_default=False)],
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Set a user's password for the pages, asked for on the terminal, and end their sessions."""
    asked = None if password_stdin else typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    _directory(data_dir).set_password(name, _password_line() if asked is None else asked)
    _answer({"user": name}, f"set the password of {name}", as_json=as_json)


def user_disable(
    name: Annotated[str, typer.Argument(help="The user's name.", show_default=False)],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Disable a user: password, tokens, sessions, roles and rights end; their repositories stay."""
    _directory(data_dir).disable(name)
    said = f"disabled {name}; 'commentary-hub token create {name}' or a new password lets them in again"
    _answer({"user": name, "disabled": True}, said, as_json=as_json)


def org_remove(
    name: Annotated[str, typer.Argument(help="The organisation.", show_default=False)],
    member: Annotated[str, typer.Argument(help="The member to remove.", show_default=False)],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove a member from an organisation."""
    _directory(data_dir).remove_member(name, member)
    _answer({"org": name, "removed": member}, f"removed {member} from {name}", as_json=as_json)


def org_add(
    name: Annotated[str, typer.Argument(help="Its name; _ owns repositories with one-word ids.", show_default=False)],
    member: Annotated[str | None, typer.Option(help="A member.")] = None,
    role: Annotated[str, typer.Option(help="The member's role: read, write or admin.")] = "admin",
    full_name: Annotated[str, typer.Option("--fullname", help="Its name in full.")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add an organisation, or a member to one that exists."""
    directory = _directory(data_dir)
    known = directory.owner(name)
    if known is not None and known.kind == "org" and member is not None:
        directory.add_member(name, member, role=role)
        _answer({"org": name, "member": member}, f"added {member} to {name}", as_json=as_json)
        return
    org = directory.add_org(name, full_name=full_name, member=member, role=role)
    _answer({"org": org.name, "member": member}, f"added {org.name}", as_json=as_json)


def token_create(
    user: Annotated[str, typer.Argument(help="Whose token.", show_default=False)],
    role: Annotated[str, typer.Option(help="read or write.")] = "write",
    label: Annotated[str, typer.Option(help="What it is for.")] = "token",
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires (default: never).")] = None,
    only: Annotated[
        str | None, typer.Option(help="The only repository it is for: dataset/owner/name.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a token and print it; it cannot be shown again."""
    expires = None if days is None else time.time() + days * 86400
    secret = _directory(data_dir).create_token(
        user, label=label, role=role, expires_at=expires, only_repo=None if only is None else only.lower()
    )
    _answer({"user": user, "role": role, "token": secret}, secret, as_json=as_json)


def token_list(
    user: Annotated[str, typer.Argument(help="Whose tokens.", show_default=False)],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List a user's tokens, without their secrets."""
    found = _directory(data_dir).tokens(user)
    rows = [{"id": one.id, "label": one.label, "role": one.role, "expires_at": one.expires_at} for one in found]
    _answer({"tokens": rows}, "\n".join(f"{one.id} {one.label} ({one.role})" for one in found), as_json=as_json)


def token_revoke(
    user: Annotated[str, typer.Argument(help="Whose token.", show_default=False)],
    number: Annotated[int, typer.Argument(help="Its number in the list.", show_default=False)],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token: it is refused from now on."""
    directory = _directory(data_dir)
    if number not in {one.id for one in directory.tokens(user)}:
        raise HubNotFound(f"{user} has no token {number}: 'commentary-hub token list {user}' shows their numbers")
    directory.revoke_token(user, number)
    _answer({"user": user, "revoked": number}, f"revoked token {number} of {user}", as_json=as_json)


def fsck(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check that every object that a revision names is present and undamaged."""
    from commentary_hub_server.app import open_world
    from commentary_hub_server.upkeep import check

    report = check(open_world(_settings(data_dir)))
    found = f"{report.files:,} files, {report.objects:,} objects checked; {len(report.problems)} problems"
    _answer(report.as_json(), found, as_json=as_json)
    for problem in report.problems[:20]:
        typer.echo(problem, err=True)
    if report.problems:
        raise CommentaryHubError(f"{len(report.problems)} objects are missing or damaged: restore them from a backup")


def gc(
    older_than_h: Annotated[
        float, typer.Option("--older-than", min=0, help="Keep objects that are younger than this many hours.")
    ] = 24,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete objects that no repository refers to; safe while the hub serves requests."""
    from commentary_hub_server.app import open_world
    from commentary_hub_server.upkeep import collect

    count, size = collect(open_world(_settings(data_dir)), older_than_s=older_than_h * 3600)
    _answer({"objects": count, "bytes": size}, f"deleted {count:,} objects, {size:,} bytes", as_json=as_json)


def backup(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy a data folder (SQLite and local objects) while the hub runs; to restore, serve the copy."""
    from commentary_hub_server.upkeep import back_up

    back_up(_settings(data_dir), folder)
    said = f"backed up to {folder}; check it: commentary-hub fsck --data-dir {folder}"
    _answer({"folder": str(folder)}, said, as_json=as_json)


def _settings(data_dir: Path | None) -> Any:
    from commentary_hub_server.settings import Settings

    return Settings.from_environment(data_dir=data_dir)


def _directory(data_dir: Path | None) -> Any:
    from commentary_hub_server.app import open_world

    return open_world(_settings(data_dir)).directory


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, before anything else is touched; a port in use is one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        why = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise CommentaryHubError(
            f"cannot listen on {host}:{port}: {why}; choose another --port, or 0 for a free one", port=port
        ) from error
    return listener


def _greet(world: Any) -> None:
    """On the first start of an empty hub: an administrator, whose token is printed this once."""
    if world.directory.is_empty():
        world.directory.add_user("admin", full_name="Administrator", is_admin=True)
        typer.echo(f"added the user admin; token (shown once): {world.directory.create_token('admin', label='first')}")


def _password_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _answer(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)
