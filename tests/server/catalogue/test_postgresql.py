"""The catalogue on PostgreSQL answers as on SQLite; a throwaway cluster, where the server's binaries are installed."""

import os
import pwd
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from commentary_hub_server.rules.catalogue import Catalogue, Query, Viewer
from tests.server.catalogue.seeding import RANKED, put_ranked, world


def binaries():
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else Path(debian[-1]).parent if debian else None


@pytest.fixture
def postgresql():
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server binaries (Debian: apt-get install postgresql)")
    options = {}
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        data = Path(place, "data")
        data.mkdir()
        if options:
            os.chown(data, options["user"], options["group"])

        def run(*command):
            subprocess.run(
                command, check=True, cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
            )

        run(folder / "initdb", "-D", data, "-U", "hub", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        run(
            folder / "pg_ctl",
            "-D",
            data,
            "-w",
            "-o",
            f"-k {data} -c listen_addresses='' -F",
            "-l",
            data / "log",
            "start",
        )
        try:
            yield f"postgresql+psycopg://hub@/postgres?host={data}"
        finally:
            run(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def test_both_databases_give_the_same_answers(postgresql):
    engine = create_engine(postgresql)
    there = Catalogue(engine)
    there.create()
    there.create()
    _, here, *_ = world(24)
    admin = Viewer(is_admin=True)
    entries = list(here.search(Query(sort="name", limit=100), admin).entries)
    random.Random(0).shuffle(entries)
    for entry in entries:
        there.put(entry)
        there.put(entry)
    here_entries = [here.one(entry.repo_id, admin) for entry in entries]
    assert [there.one(entry.repo_id, admin) for entry in entries] == here_entries
    viewers = (Viewer(), Viewer("ada", frozenset({"ada"})), admin)
    queries = (
        Query(), Query(search="cifar weights"), Query(search="'"),
        Query(dataset="SKLEARN/digits"), Query(kind="label_blend"),
        Query(student="cnn"), Query(min_gain=0.05), Query(verified=False), Query(search="digi"),
        Query(search="sklearn/dig"), Query(search="example wei", limit=100),
    )  # fmt: skip
    for viewer in viewers:
        for query in queries:
            answers = []
            for catalogue in (here, there):
                page = catalogue.search(query, viewer)
                facets = catalogue.facets(query, viewer)
                answers.append((page.total, {name: sorted(values) for name, values in facets.items()}))
                answers[-1] += ([entry.repo_id for entry in page.entries if entry.gain is not None],)
            assert answers[0] == answers[1], query
        assert here.datasets(viewer) == there.datasets(viewer)
        assert here.datasets(viewer, prefix="UOFT-") == there.datasets(viewer, prefix="UOFT-") != []
        for entry in entries:
            assert here.parents(entry, viewer) == there.parents(entry, viewer)
            assert here.of_repository(entry.repo_id, viewer) == there.of_repository(entry.repo_id, viewer)
            children = [one.children(entry.repo_id, viewer) for one in (here, there)]
            assert children[0] == children[1]
    assert there.children("ada/digits-example-weights-0")[0].repo_id == "noether-lab/digits-example-weights-5"
    for catalogue in (here, there):
        put_ranked(catalogue)
        assert [entry.repo_id for entry in catalogue.search(Query("digits robust")).entries] == RANKED
        first = catalogue.search(Query("robust", limit=2))
        rest = catalogue.search(Query("robust", cursor=first.next_cursor))
        assert [entry.repo_id for entry in first.entries + rest.entries] == RANKED
    there.remove(entries[0].repo_id)
    assert there.one(entries[0].repo_id, admin) is None
    engine.dispose()
