"""The catalogue's rules: search, facets, privacy, cursors, tensors, cards, charts."""

import io
import json
import random
import struct
from dataclasses import replace

import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient

from commentary_hub.errors import InputError, TensorFileInvalid
from commentary_hub_server.rules.catalogue import (
    STRANGER,
    Query,
    Viewer,
    arrow_stream,
    find_row,
    read_header,
    render_card_html,
    rows_by_key,
    rows_by_range,
    weights,
)
from tests.server.catalogue.seeding import tensors, weight_table, world


@pytest.fixture(scope="module")
def seeded():
    return world(24)


def reader(data):
    return lambda start, length: data[start : start + length]


def test_private_ones_are_in_no_answer_for_a_stranger(seeded):
    app, catalogue, *_ = seeded
    owner = Viewer("noether-lab", frozenset({"noether-lab"}))
    secret = next(entry for entry in catalogue.search(Query(limit=100), owner).entries if entry.private)
    assert catalogue.search(Query(limit=100), owner).total == catalogue.search(Query(limit=100)).total + 1
    for query in (Query(search=secret.name), Query(owner=secret.owner), Query(dataset=secret.dataset)):
        mine, theirs = catalogue.facets(query, owner), catalogue.facets(query)
        assert sum(n for _, n in mine["kind"]) == sum(n for _, n in theirs["kind"]) + 1
    assert catalogue.one(secret.repo_id) is None
    assert catalogue.one(secret.repo_id, owner) == secret
    client = TestClient(app)
    for path in ("/api/commentaries/{}", "/api/commentaries/{}/rows", "/datasets/{}", "/datasets/{}/tree/main"):
        hidden, missing = client.get(path.format(secret.repo_id)), client.get(path.format("noether-lab/never-made"))
        assert (hidden.status_code, hidden.content, dict(hidden.headers)) == (
            404,
            missing.content,
            dict(missing.headers),
        )


def test_a_dataset_known_only_privately_is_suggested_to_nobody(seeded):
    _, catalogue, *_ = world(6)
    entry = replace(catalogue.search(Query()).entries[0], repo_id="ada/x", dataset="secret/set", private=True, card="")
    catalogue.put(entry)
    assert catalogue.datasets(prefix="secret") == []
    assert [line.dataset for line in catalogue.datasets(Viewer("ada", frozenset({"ada"})), prefix="SECRET")] == [
        "secret/set"
    ]
    assert catalogue.search(Query(search="secret")).total == 0


@pytest.mark.parametrize("sort", ["gain", "updated", "name"])
def test_cursors_visit_every_entry_once_and_in_order(seeded, sort):
    _, catalogue, *_ = seeded
    seen, cursor = [], None
    while True:
        page = catalogue.search(Query(sort=sort, limit=5, cursor=cursor))
        seen += [entry.repo_id for entry in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [entry.repo_id for entry in catalogue.search(Query(sort=sort, limit=100)).entries]
    assert len(set(seen)) == 23


@pytest.mark.parametrize("cursor", ["x", "é", "W10", "eyJhIjoxfQ", "[" * 500, "WyJuYW1lIiwgImEiLCAxXQ"])
def test_a_foreign_cursor_is_refused(seeded, cursor):
    with pytest.raises(InputError, match="cursor"):
        seeded[1].search(Query(cursor=cursor))


@pytest.mark.parametrize("typed", ['"', "a OR", "NEAR(", "name:*", "-", "'; DROP TABLE x", "dig*", "\x00"])
def test_whatever_is_typed_is_words_not_syntax(seeded, typed):
    assert seeded[1].search(Query(search=typed)).total >= 0


def test_words_find_beginnings_in_name_dataset_and_card(seeded):
    catalogue = seeded[1]
    assert catalogue.search(Query(search="cifar")).total == catalogue.search(Query(dataset="uoft-cs/cifar10")).total > 0
    assert catalogue.search(Query(search="mislabelled exam")).total == 23
    assert catalogue.search(Query(search="nowhere")).total == 0


def test_rows_by_key_range_and_arrow_agree():
    data, keys = weight_table(50, 2, random.Random(1))
    header = read_header(reader(data), len(data))
    table = rows_by_range(reader(data), header, 10, 5)
    assert [row.key for row in table.rows] == [key.hex() for key in keys[10:15]]
    assert rows_by_key(reader(data), header, keys[12].hex()).rows == (table.rows[2],)
    assert find_row(reader(data), header.find("rows.keys"), b"\xff" * 16) == []
    arrow = pyarrow.ipc.open_stream(io.BytesIO(arrow_stream(table))).read_all().to_pydict()
    assert arrow["key"] == [row.key for row in table.rows]
    assert arrow["logits.1"] == [row.values["logits"][1] for row in table.rows]
    assert len(weights(reader(data), header)) == 50
    with pytest.raises(InputError, match="32 hex"):
        rows_by_key(reader(data), header, "zz")


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{", b"[" * 5000, b'{"a":1}', b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b'{"a":{"dtype":"X","shape":[],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
        b'{"a":{"dtype":"U8","shape":[99],"data_offsets":[0,99]}}',
        b'{"__metadata__":{"a":1}}', b'{"a":{},"a":{}}',
    ],
)  # fmt: skip
def test_hostile_headers_are_refused(header):
    data = struct.pack("<Q", len(header)) + header + bytes(8)
    with pytest.raises(TensorFileInvalid):
        read_header(reader(data), len(data))


@pytest.mark.parametrize("data", [b"", b"\x01", struct.pack("<Q", 1 << 60), tensors([])[:-1]])
def test_cut_files_are_refused(data):
    with pytest.raises(TensorFileInvalid):
        read_header(reader(data), len(data))


def test_cards_carry_no_script_and_no_foreign_picture():
    html = render_card_html(
        "---\na: 1\n---\n# T\n<script>x</script> ![a](https://e.org/a.png) ![b](../../b.png) ![c](plots/c.png) "
        "![s](x.svg) [l](javascript:x) [m](https://e.org) $a<b$\n\n|a|\n|-|\n|1|",
        "/datasets/a/b/picture/rev",
    )
    assert "<script" not in html
    assert html.count("src=") == 1
    assert 'src="/datasets/a/b/picture/rev/plots/c.png"' in html
    assert "javascript:" not in html.replace("[l](javascript:x)", "")
    assert 'rel="nofollow noopener noreferrer"' in html
    assert "<table>" in html
    assert "a&lt;b" in html


def test_rest_answers_with_etag_facets_and_comparison(seeded):
    client = TestClient(seeded[0])
    first = client.get("/api/commentaries", params={"kind": "example_weights", "limit": 2})
    assert first.json()["total"] == 12
    assert len(first.json()["items"]) == 2
    again = client.get(first.request.url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    ids = [item["id"] for item in first.json()["items"]]
    assert [item["id"] for item in client.get("/api/commentaries/compare", params={"id": ids}).json()["items"]] == ids
    one = client.get(f"/api/commentaries/{ids[0]}").json()
    assert {"manifest", "evidence", "files", "lineage", "revisions"} <= one.keys()
    assert client.get("/api/commentaries", params={"cursor": "x"}).status_code == 400
    documented = json.dumps(client.get("/openapi.json").json()["paths"]["/api/commentaries"])
    assert '"example"' in documented


def test_forms_from_elsewhere_change_nothing(seeded):
    app, catalogue, _, accounts = seeded
    client = TestClient(app)
    assert client.post("/sign-in", data={"csrf": "x", "name": "ada", "password": "adaada"}).status_code == 403
    entry = catalogue.search(Query(owner="ada")).entries[0]
    answer = client.post(f"/datasets/{entry.repo_id}/settings/delete", data={"csrf": "x", "confirm": entry.repo_id})
    assert answer.status_code == 404
    assert accounts.deleted == []
    assert catalogue.one(entry.repo_id, STRANGER) is not None
