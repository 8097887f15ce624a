"""The catalogue's rules: search, facets, privacy, cursors, tensors, cards, charts."""

import io
import json
import random
import struct
import time
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient

from commentary_hub.errors import InputError, TensorFileInvalid
from commentary_hub_server.rules.catalogue import (
    Catalogue,
    Commentary,
    Query,
    StoredFile,
    Viewer,
    _reading,
    arrow_stream,
    difference,
    find_row,
    read_commentary,
    read_header,
    rows_by_key,
    rows_by_range,
    tensor_file,
)
from commentary_hub_server.store import connect
from tests.server.catalogue.artefacts import tensors, weight_rows
from tests.server.catalogue.seeding import RANKED, MemoryShelf, put_ranked, world


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


@pytest.mark.parametrize(
    ("sort", "search"), [("gain", ""), ("updated", ""), ("name", ""), ("relevance", "weights learned")]
)
def test_cursors_visit_every_entry_once_and_in_order(seeded, sort, search):
    _, catalogue, *_ = seeded
    seen, cursor = [], None
    while True:
        page = catalogue.search(Query(search, sort=sort, limit=5, cursor=cursor))
        seen += [entry.repo_id for entry in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [entry.repo_id for entry in catalogue.search(Query(search, sort=sort, limit=100)).entries]
    assert len(set(seen)) == len(seen) == 23


def ranked():
    _, catalogue, *_ = world(2)
    return catalogue, put_ranked(catalogue)


def found(catalogue, *search, **options):
    return [entry.repo_id for entry in catalogue.search(Query(*search, **options)).entries]


def test_datasets_methods_and_licences_are_found_in_any_case_of_any_alphabet(tmp_path):
    catalogue = Catalogue(connect(f"sqlite:///{tmp_path / 'hub.db'}"))
    catalogue.create()
    _, other, *_ = world(2)
    entry = other.search(Query()).entries[0]
    catalogue.put(replace(entry, repo_id="ada/x", dataset="École/Images", method="Équipe", licence="Œuvre"))
    catalogue.put(replace(entry, repo_id="ada/y", dataset="İstanbul/ΣΑΣ", method="unrolled"))
    for query in (
        {"dataset": "École/Images"}, {"dataset": "éCOLE/IMAGES"}, {"method": "Équipe"}, {"method": "équipe"},
        {"licence": "Œuvre"}, {"licence": "œUVRE"},
    ):  # fmt: skip
        assert found(catalogue, **query) == ["ada/x"], query
    assert found(catalogue, dataset="İstanbul/ΣΑΣ") == ["ada/y"]
    assert dict(catalogue.facets(Query(method="équipe"))["licence"]) == {"Œuvre": 1}
    assert [line.dataset for line in catalogue.datasets(prefix="ÉCO")] == ["École/Images"]


def test_words_in_the_name_come_before_those_in_the_dataset_and_in_the_card():
    catalogue, _ = ranked()
    assert found(catalogue, "robust") == RANKED
    assert found(catalogue, "robust", sort="gain") == ["ada/one", "ada/two", "ada/four", "ada/three"]
    assert found(catalogue, "digits robust") == ["ada/four", "ada/three", "ada/two", "ada/one"]
    assert found(catalogue, sort="relevance") == found(catalogue, sort="gain") == found(catalogue)
    with pytest.raises(InputError, match="cursor"):
        catalogue.search(Query("robust", sort="gain", cursor=catalogue.search(Query("robust", limit=1)).next_cursor))


def test_private_texts_do_not_move_public_ones():
    catalogue, entry = ranked()
    before = catalogue.search(Query("robust", limit=1))
    for number in range(20):
        catalogue.put(replace(entry, repo_id=f"emmy/{number}", private=True, card="robust robust"))
    assert catalogue.search(Query("robust", limit=1)) == before  # with the cursor, which holds a number
    assert found(catalogue, "robust") == RANKED


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
    assert catalogue.search(Query(search="checked by ha")).total == 23
    assert catalogue.search(Query(search="nowhere")).total == 0


def test_rows_by_key_range_and_arrow_agree():
    data, keys = weight_rows(50, 2, random.Random(1))
    header = read_header(reader(data), len(data))
    table = rows_by_range(reader(data), header, 10, 5)
    assert [row.key for row in table.rows] == [key.hex() for key in keys[10:15]]
    assert rows_by_key(reader(data), header, keys[12].hex()).rows == (table.rows[2],)
    assert find_row(reader(data), header.find("rows.keys"), b"\xff" * 16) == []
    arrow = pyarrow.ipc.open_stream(io.BytesIO(arrow_stream(table))).read_all().to_pydict()
    assert arrow["key"] == [row.key for row in table.rows]
    assert arrow["logits.1"] == [row.values["logits"][1] for row in table.rows]
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


@pytest.mark.parametrize("width", [64, 0])
def test_a_row_of_many_tensors_shows_what_fits(width):
    """Each tensor alone is small; twelve thousand of them would be built in memory for every thousand rows."""
    shapes = {"rows.keys": ("U8", 16), "rows.targets": ("U8", 8)} | {
        f"commentary.{n:03}": ("U8", width) for n in range(900)
    }
    described, at = {}, 0
    for name, (dtype, columns) in shapes.items():
        described[name] = {"dtype": dtype, "shape": [10, columns], "data_offsets": [at, at + 10 * columns]}
        at += 10 * columns
    header = json.dumps(described).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(at)
    table = rows_by_range(reader(data), read_header(reader(data), len(data)), 0, 1000)
    assert len(table.rows) == 10
    assert len(table.rows[0].values) == (4 if width else 256)


class Files:
    """A shelf of one revision that notes what it was asked for."""

    def __init__(self, files):
        self.files, self.asked = files, []

    def read(self, _repo_id, _revision, path, start, length):
        self.asked.append(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][start : start + length]


def test_of_many_shards_the_one_that_holds_the_tensor_is_read():
    """Each shard is a header to parse: a stranger's request costs one, whatever the manifest lists."""
    shard = tensors([("x", "U8", [1], b"1")])
    keys = tensors([("rows.keys", "U8", [1, 16], bytes(16))])
    names = [f"commentary-{n}.safetensors" for n in range(64)]
    held = dict.fromkeys(names, shard) | {names[40]: keys}
    index = json.dumps({"weight_map": {"rows.keys": names[40]}}).encode()
    for files, expected in ((held | {"commentary.safetensors.index.json": index}, "rows.keys"), (held, "x")):
        shelf = Files(files)
        stored = tuple(StoredFile(name, len(data), name) for name, data in sorted(files.items()))
        manifest = SimpleNamespace(tensor_files=tuple(sorted(names)))
        _, header = tensor_file(shelf, Commentary("a/b", "1", manifest, None, "", stored))
        assert header.tensors[0].name == expected
        assert len({path for path in shelf.asked if path.endswith(".safetensors")}) == 1


def test_of_the_plots_of_a_commentary_the_first_few_are_read(monkeypatch):
    shelf, repo = world(2)[2], "ada/digits-example-weights-0"
    plots = {f"plots/{at}.png": b"" for at in range(5)}
    revision = shelf.commit(repo, {**shelf.commits[repo][-1][1], **plots}, "Plots")
    monkeypatch.setattr(_reading, "_MAX_PLOTS", 3)
    files = [file.path for file in read_commentary(shelf, repo, revision).files]
    assert [path for path in files if path.startswith("plots/")] == sorted(plots)[:3]
    assert {"commentary.json", "README.md", "commentary.safetensors"} <= set(files)


def test_a_header_beyond_a_megabyte_is_not_parsed():
    header = b'{"__metadata__":{"a":"' + b"x" * (1 << 20) + b'"}}'
    data = struct.pack("<Q", len(header)) + header
    with pytest.raises(TensorFileInvalid, match="read at most"):
        read_header(reader(data), len(data))


def test_a_difference_compares_ten_texts_line_by_line():
    old, new = ({f"{n:02}.txt": f"{n} {word}\n".encode() * 600 for n in range(12)} for word in ("old", "new"))
    shelf = MemoryShelf()
    before, after = shelf.commit("a/b", old, "1"), shelf.commit("a/b", new, "2")
    changes = difference(shelf, "a/b", before, after)
    assert len(changes) == 12
    assert [bool(one.lines) for one in changes] == [True] * 10 + [False] * 2


def test_texts_that_take_long_to_compare_are_compared_one_at_a_time_and_once():
    """Lines that come again between lines that do not: difflib looks at all of them for each."""

    def text(side):
        return "".join(f"x{at // 2 % 50}\n" if at % 2 else f"{side} {at}\n" for at in range(2000)).encode()

    shelf, times = MemoryShelf(), []
    before, after = (
        shelf.commit("a/b", dict.fromkeys(map("{}.txt".format, range(10)), text(side)), side) for side in "vw"
    )
    for _ in range(2):
        began = time.process_time()
        changes = difference(shelf, "a/b", before, after)
        times.append(time.process_time() - began)
        assert [bool(one.lines) for one in changes] == [True] + [False] * 9
    assert times[0] < 3
    assert times[1] < 0.2


@pytest.mark.parametrize("data", [b"", b"\x01", struct.pack("<Q", 1 << 60), tensors([])[:-1]])
def test_cut_files_are_refused(data):
    with pytest.raises(TensorFileInvalid):
        read_header(reader(data), len(data))


def test_the_facet_of_gain_counts_what_has_at_least_so_much(seeded):
    catalogue = seeded[1]
    counted = dict(catalogue.facets(Query())["gain"])
    assert list(counted) == ["0", "0.01", "0.05", "0.1"]
    for least, count in counted.items():
        assert catalogue.search(Query(min_gain=float(least))).total == count > 0
    assert dict(catalogue.facets(Query(min_gain=0.1))["gain"]) == counted
    assert sum(n for _, n in catalogue.facets(Query(min_gain=0.1))["kind"]) == counted["0.1"]


def test_lineage_names_parents_and_children_that_the_viewer_may_see(seeded):
    _, catalogue, *_ = seeded
    child = catalogue.one("noether-lab/digits-example-weights-5")
    (reference, parent), (foreign, nothing) = catalogue.parents(child)
    assert parent.repo_id == reference == "ada/digits-example-weights-0"
    assert (foreign, nothing) == ("a spreadsheet of 2019", None)
    assert [one.repo_id for one in catalogue.children(parent.repo_id)] == [child.repo_id]
    catalogue.set_private(parent.repo_id, private=True)
    catalogue.set_private(child.repo_id, private=True)
    assert catalogue.children(parent.repo_id) == ()
    assert [found for _, found in catalogue.parents(child)] == [None, None]
    for name in (parent.repo_id, child.repo_id):
        catalogue.set_private(name, private=False)


def test_commentaries_inside_a_dataset_are_listed_with_their_folder(seeded):
    _, catalogue, *_ = seeded
    owner = Viewer("katherine", frozenset({"katherine"}))
    inside = catalogue.of_repository("katherine/letters", owner)
    assert [one.folder for one in inside] == ["commentaries/example-weights", "commentaries/mixture-weights"]
    assert catalogue.one("katherine/letters", owner) is None
    assert catalogue.one("Katherine/Letters", owner, folder=inside[0].folder) == inside[0]
    assert catalogue.of_repository("katherine/letters") == ()
