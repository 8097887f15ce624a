"""Some rows of a table that lies elsewhere: the right ones, and few bytes more."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commentary_hub.artefact import Rows, load, load_part, save
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import InputError, TensorFileInvalid
from commentary_hub.manifest import DatasetBinding, KeyScheme, read_manifest

M = 40_000


class Far:
    """A folder as if it lay far away; counts what is read of it."""

    def __init__(self, folder):
        self.folder, self.manifest, self.reads, self.rounds = folder, read_manifest(folder), [], 0

    def read(self, name, spans):
        assert all(0 <= start < stop for start, stop in spans)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        self.rounds += 1
        self.reads.extend(stop - start for start, stop in spans)
        with (self.folder / name).open("rb") as file:
            return [os.pread(file.fileno(), stop - start, start) for start, stop in spans]


def spread(rng):
    return rng.integers(0, 256, (M, 16), dtype=np.uint8)


def crowded(rng):
    """Keys as no digest makes them: nearly all in one corner, many equal, first and last possible ones among them."""
    keys = np.zeros((M, 16), np.uint8)
    keys[:, 12:] = rng.integers(0, 12, (M, 4), dtype=np.uint8)
    keys[:3], keys[3:6] = 0, 255
    return keys


@pytest.fixture(scope="module", params=[spread, crowded])
def table(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__)
    rng = np.random.default_rng(0)
    keys, targets = request.param(rng), rng.integers(0, 3, (M, 8), dtype=np.uint8)
    commentary = ExampleWeights(rows=M, stages=2)
    with torch.no_grad():
        commentary.logits.copy_(torch.randn(M, 2, generator=torch.Generator().manual_seed(0)))
    dataset = DatasetBinding(identity={"id": "far/away"}, rows=M, key=KeyScheme(form="image"))
    save(
        folder, commentary, name="far", dataset=dataset, loss_reduction="mean", rows=Rows(keys, targets),
        validation_keys=keys[:9], max_shard_size="500KB",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("wanted", [0, 1, 7, 3_000, M])
def test_the_rows_of_the_wanted_keys_come_and_no_others(table, wanted):
    whole = load(table)
    rng = np.random.default_rng(1)
    keys = whole.rows.keys[rng.choice(len(whole.rows.keys), min(wanted, len(whole.rows.keys)), replace=False)]
    ends = np.array([[0] * 16, [255] * 16], np.uint8) if wanted else np.empty((0, 16), np.uint8)
    asked = np.concatenate([keys, rng.integers(0, 256, (wanted // 2, 16), dtype=np.uint8), ends])
    part = load_part(Far(table), asked, cache=False)
    contents = {bytes(key) for key in asked}
    expected = np.array([place for place, key in enumerate(whole.rows.keys) if bytes(key) in contents], np.int64)
    assert np.array_equal(part.rows.keys, whole.rows.keys[expected])
    assert np.array_equal(part.rows.targets, whole.rows.targets[expected])
    assert torch.equal(part.commentary.logits, whole.commentary.logits[torch.from_numpy(expected)])
    assert np.array_equal(part.validation_keys, whole.validation_keys)
    assert part.manifest.dataset == whole.manifest.dataset


@pytest.mark.parametrize("table", [spread], indirect=True)
def test_few_rows_cost_few_bytes_and_the_second_time_none(table):
    whole = load(table)
    far = Far(table)
    asked = whole.rows.keys[[100, 20_000, 39_000]]
    first = load_part(far, asked)
    total = sum((table / name).stat().st_size for name in far.manifest.tensor_files)
    assert sum(far.reads) < 0.12 * total
    assert max(far.reads) <= 1 << 14
    reads = len(far.reads)
    again = load_part(far, asked)
    assert len(far.reads) == reads
    assert torch.equal(first.commentary.logits, again.commentary.logits)


@pytest.mark.parametrize("table", [spread], indirect=True)
@pytest.mark.parametrize("wanted", [2_000, M])
def test_many_rows_cost_no_more_than_the_whole_in_few_reads(table, wanted):
    far, keys = Far(table), load(table).rows.keys
    part = load_part(far, keys[np.random.default_rng(1).choice(M, wanted, replace=False)], cache=False)
    assert len(part.rows.keys) == wanted
    shards = [(table / name).stat().st_size for name in far.manifest.tensor_files]
    assert sum(far.reads) <= sum(shards) + len(shards) * (1 << 14)  # whose heads are looked at first
    assert len(far.reads) < 20


@st.composite
def tables(draw):
    """Keys of a table, by how they lie, and keys that are asked for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, how = (
        draw(st.integers(1, 3_000)),
        draw(st.sampled_from(["spread", "clustered", "halving", "one prefix", "few"])),
    )
    keys = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    if how == "clustered":
        keys[:, :6] = keys[rng.integers(0, min(rows, 3), rows), :6]
    if how == "halving":  # where interpolation is always wrong
        keys = np.array([list((2**127 >> int(n)).to_bytes(16)) for n in rng.integers(0, 128, rows)], np.uint8)
    if how == "one prefix":
        keys[:, :12] = keys[0, :12]
    if how == "few":
        keys = keys[rng.integers(0, min(rows, 5), rows)]
    asked = [keys[rng.integers(0, rows, draw(st.integers(0, 60)))], rng.integers(0, 256, (draw(st.integers(0, 9)), 16))]
    asked += [np.array([[0] * 16, [255] * 16])[: draw(st.integers(0, 2))], keys[:1] ^ np.uint8(draw(st.integers(0, 1)))]
    return keys, np.concatenate(asked).astype(np.uint8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_any_rows_of_any_table_are_those_of_the_whole(tmp_path_factory, monkeypatch, drawn):
    monkeypatch.setattr("commentary_hub.artefact._part._GAP_BYTES", 64)  # so that small tables are searched too
    monkeypatch.setattr("commentary_hub.artefact._part._WINDOW", 16)
    monkeypatch.setattr("commentary_hub.artefact._part._PROBE", 2)
    keys, asked = drawn
    folder = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(1)
    commentary = ExampleWeights(rows=len(keys))
    with torch.no_grad():
        commentary.logits.copy_(torch.from_numpy(rng.normal(size=(len(keys), 1))))
    dataset = DatasetBinding(identity={"id": "far/away"}, rows=len(keys), key=KeyScheme(form="image"))
    targets = rng.integers(0, 2, (len(keys), 8), dtype=np.uint8)
    save(folder, commentary, name="far", dataset=dataset, loss_reduction="mean", rows=Rows(keys, targets))
    whole, far = load(folder), Far(folder)
    part = load_part(far, asked, cache=False)
    wanted = {bytes(key) for key in asked}
    expected = [place for place, key in enumerate(whole.rows.keys) if bytes(key) in wanted]
    assert np.array_equal(part.rows.keys, whole.rows.keys[expected])
    assert np.array_equal(part.rows.targets, whole.rows.targets[expected])
    assert torch.equal(part.commentary.logits, whole.commentary.logits[expected])
    assert far.rounds <= 4 + 3 * np.log2(len(keys) + 2)
    assert sum(far.reads) <= far.rounds * sum((folder / name).stat().st_size for name in far.manifest.tensor_files)
    shutil.rmtree(folder)


def test_an_empty_table_has_no_rows_for_anybody(tmp_path):
    dataset = DatasetBinding(identity={"id": "far/away"}, rows=0, key=KeyScheme(form="image"))
    nothing = Rows(np.empty((0, 16), np.uint8), np.empty((0, 8), np.uint8))
    save(tmp_path, ExampleWeights(rows=0), name="far", dataset=dataset, loss_reduction="mean", rows=nothing)
    part = load_part(Far(tmp_path), spread(np.random.default_rng(0))[:9], cache=False)
    assert part.rows.keys.shape == (0, 16)


def test_hostile_and_damaged_headers_are_refused_before_anything_else_is_read(table, tmp_path):
    def changed(change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(table, folder)
        for name in read_manifest(folder).tensor_files:
            content = (folder / name).read_bytes()
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            (folder / name).write_bytes(change(header, content[8 + size :]))
        return Far(folder)

    def written(header, data):
        raw = json.dumps(header).encode()
        return len(raw).to_bytes(8, "little") + raw + data

    def beyond(header, data):
        for name, said in header.items():
            if name != "__metadata__":
                said["data_offsets"] = [said["data_offsets"][0] + 10**9, said["data_offsets"][1] + 10**9]
        return written(header, data)

    def larger(header, data):
        return written({n: s if n == "__metadata__" else s | {"shape": [10**12, 16]} for n, s in header.items()}, data)

    for change in (
        beyond,
        larger,
        lambda header, data: (2**62).to_bytes(8, "little") + data,
        lambda header, data: b"",
        lambda header, data: written(["no object"], data),
        lambda header, data: written(dict.fromkeys(header, "nothing"), data),
    ):
        far = changed(change)
        with pytest.raises(TensorFileInvalid):
            load_part(far, np.zeros((1, 16), np.uint8), cache=False)
        assert sum(far.reads) < 1 << 20


def test_rows_that_are_not_sorted_are_refused_or_not_found_but_never_mistaken(tmp_path, monkeypatch):
    monkeypatch.setattr(Rows, "sort", lambda self: (self, torch.arange(len(self.keys))))
    keys = spread(np.random.default_rng(0))[:2_000]
    commentary = ExampleWeights(rows=2_000)
    dataset = DatasetBinding(identity={"id": "far/away"}, rows=2_000, key=KeyScheme(form="image"))
    rows = Rows(keys, np.zeros((2_000, 8), np.uint8))
    save(tmp_path, commentary, name="far", dataset=dataset, loss_reduction="mean", rows=rows)
    refused = 0
    for low in range(0, 2_000, 100):
        try:
            part = load_part(Far(tmp_path), keys[low : low + 100], cache=False)
        except TensorFileInvalid:
            refused += 1
        else:
            known = {bytes(key) for key in keys[low : low + 100]}
            assert all(bytes(key) in known for key in part.rows.keys)
    assert refused


@pytest.mark.parametrize("how", ["sorted", "anything", "high", "low"])
def test_a_source_that_says_something_else_each_time_is_soon_refused(table, how):
    class Lying(Far):
        def read(self, name, spans):
            content = super().read(name, spans)
            if spans == [(0, 1 << 14)]:
                return content
            rng = np.random.default_rng(self.rounds)
            lies = [rng.integers(0, 256, (len(one) // 16, 16), dtype=np.uint8) for one in content]
            if how == "sorted":
                lies = [lie[np.lexsort(lie.T[::-1])] for lie in lies]
            if how in {"high", "low"}:
                lies = [np.full_like(lie, 255 if how == "high" else 0) for lie in lies]
            return [lie.tobytes().ljust(len(one), b"\0") for lie, one in zip(lies, content, strict=True)]

    for wanted in (1, 40):
        far, asked = Lying(table), load(table).rows.keys[:: M // wanted][:wanted]
        try:
            part = load_part(far, asked, cache=False)
        except TensorFileInvalid:
            part = None
        known = {bytes(key) for key in asked}
        assert part is None or all(bytes(key) in known for key in part.rows.keys)
        assert far.rounds < 60


def test_keys_of_another_width_are_refused(table):
    with pytest.raises(InputError, match=r"uint8 \[N, 16\]"):
        load_part(Far(Path(table)), np.zeros((3, 8), np.uint8))


def test_what_one_source_sent_is_not_taken_for_another_that_claims_its_digests(tmp_path, monkeypatch):
    """No digest is checked of parts: a copy with other numbers under the same manifest must not reach its original."""
    monkeypatch.setenv("COMMENTARY_HUB_CACHE", str(tmp_path / "cache"))
    keys = np.sort(spread(np.random.default_rng(0))[:200].view("S16").ravel()).view(np.uint8).reshape(-1, 16)
    for name, number in (("good", 1.0), ("evil", -9.0)):
        dataset = DatasetBinding(identity={"id": "far/away"}, rows=200, key=KeyScheme(form="image"))
        rows = Rows(keys, np.zeros((200, 8), np.uint8))
        table = ExampleWeights(rows=200, initial=number)
        save(tmp_path / name, table, name="far", dataset=dataset, loss_reduction="mean", rows=rows)
    shutil.copy(tmp_path / "good" / "commentary.json", tmp_path / "evil" / "commentary.json")
    assert load_part(Far(tmp_path / "evil"), keys[:9]).commentary.logits[0, 0] == -9.0
    good = Far(tmp_path / "good")
    assert load_part(good, keys[:9]).commentary.logits[0, 0] == 1.0
    read = len(good.reads)
    assert load_part(good, keys[:9]).commentary.logits[0, 0] == 1.0
    assert len(good.reads) == read > 0  # its own rows are kept
