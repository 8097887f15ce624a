"""The catalogue on PostgreSQL answers as on SQLite; a throwaway cluster, where the server's binaries are installed."""

import random
import uuid

from sqlalchemy import create_engine, text

from commentary_hub_server.rules.catalogue import Catalogue, Query, Viewer
from commentary_hub_server.store import connect, migrate
from tests.server.catalogue.seeding import RANKED, put_ranked, world


def test_both_databases_give_the_same_answers(postgresql_host):
    engine = create_engine(f"postgresql+psycopg://hub@/postgres?host={postgresql_host}")
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


def test_what_was_catalogued_before_the_order_by_relevance_is_ranked_like_the_rest(postgresql_host):
    name = f"old_{uuid.uuid4().hex[:12]}"
    admin = create_engine(f"postgresql+psycopg://hub@/postgres?host={postgresql_host}", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    engine = connect(f"postgresql://hub@/{name}?host={postgresql_host}")
    migrate(engine, "0003")
    catalogue = Catalogue(engine)
    catalogue.create()
    zero = put_ranked(catalogue)
    with engine.begin() as connection:  # one heap of words, as it was then
        connection.execute(text("UPDATE catalogue_text SET words = setweight(words, 'D')"))
    catalogue.put(zero)

    def ranked(words):
        return [entry.repo_id for entry in catalogue.search(Query(words)).entries]

    def newest():
        with engine.connect() as connection:
            return connection.execute(text("SELECT words::text FROM catalogue_text ORDER BY rowid DESC")).scalar()

    before, fresh = ranked("robust"), newest()
    migrate(engine)
    assert before != RANKED
    assert ranked("robust") == RANKED
    assert ranked("digits robust") == RANKED
    assert newest() == fresh  # what says already where its words stand stays as it is
    engine.dispose()
