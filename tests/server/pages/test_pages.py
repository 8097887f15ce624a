"""What the pages show, without a browser: every page, its charts, its snippets, and what is kept but not listed."""

import ast
import dataclasses
import html
import json
import random
import re
import shlex
import struct
import tracemalloc
from array import array
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from commentary_hub_server.routes.pages import _charts as charts
from commentary_hub_server.routes.pages._snippets import endpoint_line, snippets
from commentary_hub_server.rules.catalogue import (
    Query,
    blend_table,
    mixture_shares,
    read_header,
    target_digest,
    weight_table,
)
from tests.server.catalogue.artefacts import CLASSES, artefact, sample_sheet, tensors
from tests.server.catalogue.seeding import MemoryShelf, sigmoid, world

WEIGHTS = "/datasets/katherine/cifar10-example-weights-16"
BLEND = "/datasets/emmy/mnist-label-blend-2"
MASK = "/datasets/noether-lab/cifar10-attention-mask-11"


@pytest.fixture(scope="module")
def made():
    return world(24)


@pytest.fixture(scope="module")
def client(made):
    return TestClient(made[0])


@pytest.fixture(scope="module")
def katherine(made):
    return signed_in(made[0], "katherine")


def signed_in(app, name):
    client = TestClient(app, follow_redirects=False)
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/sign-in").text)[1]
    answer = client.post("/sign-in", data={"csrf": token, "name": name, "password": name * 2})
    assert answer.status_code == 303
    return client


def test_the_dataset_page_ranks_by_gain_and_says_what_an_interval_that_holds_zero_means(client):
    page = client.get("/for/uoft-cs/cifar10").text
    gains = [float(text.replace("−", "-")) for text in re.findall(r'<td class="n">([+−][\d.]+)<br>', page)]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) == 4
    assert "not measured" in page
    assert "An interval that holds zero shows no difference" in page


def test_addresses_that_cannot_be_read_find_something_all_the_same(client):
    for query in ("sort=bogus", "verified=perhaps", "min_gain=much", "min_gain=nan", "cursor=x", "limit=9"):
        assert "23 commentaries" in client.get(f"/?{query}").text, query
    for threshold in ("nan", "x", "9", "-1"):
        assert client.get(f"{WEIGHTS}?threshold={threshold}").status_code == 200


def test_facets_lead_to_what_they_count(client):
    page = client.get("/").text
    for href, count in re.findall(r'<li><a href="(/\?[^"]+)">[^<]+<span>([\d,]+)</span>', page):
        assert re.search(rf"\b{count} commentar", client.get(html.unescape(href)).text), href


def test_evidence_stands_with_every_control_and_student(client):
    page = client.get(WEIGHTS).text
    for word in ("mlp", "cnn", "none", "equal data", "shuffled", "clean only", "10 paired seeds", "Rule, fixed before"):
        assert word in page
    assert page.count('class="chart range"') == 8


def test_a_threshold_shows_examples_and_labels_on_either_side(made, client):
    low, high = client.get(f"{WEIGHTS}?threshold=0.3").text, client.get(f"{WEIGHTS}?threshold=0.7").text
    for page, threshold in ((low, 0.3), (high, 0.7)):
        below, above = re.findall(r"<h4>(?:Below|Above) <span class=\"count\">(\d+) of 600", page)
        assert int(below) + int(above) == 600
        sides = page.index("<h4>Below"), page.index("<h4>Above")
        shown = [float(text) for text in re.findall(r"<b>(0\.\d+)</b>", page[sides[0] : sides[1]])]
        assert len(shown) == 6
        assert max(shown) < threshold
        assert min(float(text) for text in re.findall(r"<b>(0\.\d+)</b>", page[sides[1] :])) >= threshold
        assert page.count("/plots/samples.png") == 12
    assert low != high
    assert "Share below the threshold, by label" in low
    assert "horse" in low


def test_labels_are_found_by_the_digests_that_the_library_gives_targets():
    data = pytest.importorskip("commentary_hub.data")
    for target in (0, 7, 999, "cat", "ä"):
        assert target_digest(target) == data.target_digest(target)


def test_weights_are_the_sigmoid_of_logits_averaged_over_training():
    logits = [[-2.0, 0.0], [1.0, 3.0], [float("nan"), 0.0]]
    flat = struct.pack("<6f", *logits[0], *logits[1], *logits[2])
    targets = b"".join(target_digest(label) for label in (1, 0, 0))
    data = tensors([("rows.targets", "U8", [3, 8], targets), ("commentary.logits", "F32", [3, 2], flat)])

    def read(start, length):
        return data[start : start + length]

    manifest, *_ = artefact("x", "example_weights", "uoft-cs/cifar10", random.Random(0), rows=3)
    table = weight_table(read, read_header(read, len(data)), manifest)
    assert table.total == 3
    assert table.rows == (0, 1)
    assert table.weights == pytest.approx([(sigmoid(-2) + 0.5) / 2, (sigmoid(1) + sigmoid(3)) / 2])
    assert table.quartiles[0] == pytest.approx((sigmoid(-2), sigmoid(-2), sigmoid(-2)))
    assert table.split(0.5, 6) == ([0], [1], 1)


def test_large_tables_are_sampled_evenly_by_few_reads():
    rows, reads = 100_000, []
    logits = struct.pack(f"<{rows}f", *(8 * at / rows - 4 for at in range(rows)))
    data = tensors([("commentary.logits", "F32", [rows, 1], logits)])

    def read(start, length):
        reads.append(length)
        return data[start : start + length]

    manifest, *_ = artefact("x", "example_weights", "uoft-cs/cifar10", random.Random(0), rows=3)
    table = weight_table(read, read_header(read, len(data)), manifest)
    assert (table.total, len(table.weights), len(reads)) == (rows, 10_000, 12)
    assert all(
        table.weights[at] == pytest.approx(sigmoid(8 * row / rows - 4), abs=1e-6) for at, row in enumerate(table.rows)
    )
    assert max(abs(low - rows * at / 10) for at, low in enumerate(table.rows[::1000])) < 1


def test_of_many_stages_fewer_rows_are_read_and_the_same_each_time():
    rows, stages, asked = 40_000, 64, []

    def read(start, length):
        asked.append(length)
        return data[start : start + length]

    logits = struct.pack(f"<{rows}f", *(8 * at / rows - 4 for at in range(rows)))
    wide = b"".join(logits[at : at + 4] * stages for at in range(0, len(logits), 4))
    data = tensors([("commentary.logits", "F32", [rows, stages], wide)])
    manifest, *_ = artefact("x", "example_weights", "uoft-cs/cifar10", random.Random(0), rows=3)
    first, second = (weight_table(read, read_header(read, len(data)), manifest) for _ in range(2))
    assert (first.total, len(first.weights), len(first.quartiles)) == (rows, 2_500, stages)
    assert first == second
    assert sum(asked) < 2 * (2_500 * stages * 4 + 2_000)


def test_where_there_are_no_pictures_the_page_says_why_and_how_to_see_the_examples(made, client):
    texts = made[1].search(Query(dataset="fancyzhx/ag_news", kind="example_weights")).entries[0]
    page = html.unescape(client.get(f"/datasets/{texts.repo_id}").text)
    assert "A text cannot be told from its key" in page
    command = f"commentary-hub export {texts.repo_id}@{texts.revision} weights.csv --dataset fancyzhx/ag_news"
    assert f">{command}</code>" in page
    keys = re.findall(r'<code title="Content key ([0-9a-f]{32})">([0-9a-f]{8})</code>', page)
    assert len(keys) == 12
    assert all(key.startswith(shown) for key, shown in keys)
    assert "export" not in client.get(WEIGHTS).text.partition('id="sides"')[2].partition("</section>")[0]


def test_blends_and_mixtures_are_read_as_their_kinds_define_them(client, katherine):
    data = tensors([("commentary.logits", "F32", [2, 2], struct.pack("<4f", -1, 0, 2, -1))])

    def read(start, length):
        return data[start : start + length]

    table = blend_table(read, read_header(read, len(data)), drawn=1, pairs=1)
    assert (table.count, len(table.shares), len(table.shares[0])) == (2, 1, 1)
    assert table.shares[0][0] == table.low == pytest.approx(0.5 * sigmoid(-1))
    assert table.pairs == ((1, 0, table.high),)
    assert table.high == pytest.approx(0.5 * sigmoid(2))
    vector = tensors([("commentary.logits", "F32", [2], struct.pack("<2f", 0, 1))])
    shares = mixture_shares(lambda s, n: vector[s : s + n], read_header(lambda s, n: vector[s : s + n], len(vector)))
    assert shares == pytest.approx([1 - sigmoid(1), sigmoid(1)])
    page = client.get(BLEND).text
    assert "Blended most" in page
    assert page.count('class="cell"') == 100
    mixture = katherine.get("/datasets/katherine/letters/commentaries/mixture-weights").text
    assert re.findall(r'<th scope="row">([a-z ]+)</th>', mixture)[-5:] == [
        "encyclopaedia", "source code", "news", "plays", "letters",
    ]  # fmt: skip


def test_of_a_thousand_classes_few_numbers_are_kept_and_none_is_read_twice(made, monkeypatch):
    app, catalogue, shelf, _ = world(4)
    entry = catalogue.search(Query(kind="label_blend")).entries[0]
    logits = array("f", [-1.0]) * 1_000_000
    for at, (row, partner) in enumerate(((7, 7), (998, 3), (3, 998), (500, 501))):
        logits[1000 * row + partner] = 4.0 - at
    files = next(files for commit, files in shelf.commits[entry.repo_id] if commit.id == entry.revision)
    files["commentary.safetensors"] = tensors([("commentary.logits", "F32", [1000, 1000], logits.tobytes())])
    client, asked, read = TestClient(app), [], shelf.read
    monkeypatch.setattr(shelf, "read", lambda *what: asked.append(what) or read(*what))
    tracemalloc.start()
    page = client.get(f"/datasets/{entry.repo_id}").text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    assert re.findall(r'<th scope="row">(\d+ \+ \d+)', page)[:3] == ["998 + 3", "3 + 998", "500 + 501"]
    assert page.count('class="cell"') == 1600
    assert "The first 40 of 1000 classes" in page
    asked.clear()
    assert client.get(f"/datasets/{entry.repo_id}").text == page
    assert "commentary.safetensors" not in [path for _, _, path, *_ in asked]


def test_masks_are_shown_by_their_pictures_with_their_captions(client):
    page = client.get(MASK).text
    assert page.count("<figure>") == 3
    assert 'alt="Two digits, the mask around the red one"' in page


def test_hostile_tensor_files_leave_a_page_without_charts(made):
    app, catalogue, shelf, _ = world(4)
    entry = catalogue.one("ada/digits-example-weights-0")
    for data in (b"", b"\xff" * 64, tensors([("commentary.logits", "F32", [2], bytes(8))])):
        for _, files in shelf.commits[entry.repo_id]:
            files["commentary.safetensors"] = data
            files["plots/samples.png"] = b"\x89PNG\r\n\x1a\n" + b"\xff" * 40
        page = TestClient(app).get(f"/datasets/{entry.repo_id}")
        assert page.status_code == 200
        assert "histogram" not in page.text


@pytest.mark.parametrize("text", [b"!", b"[]", b'{"columns": 0}', b'{"columns":9e9,"rows":1,"samples":[["a",1,""]]}'])
def test_sheets_of_samples_that_cannot_be_believed_are_passed_over(text):
    app, catalogue, shelf, _ = world(1 + 1)
    entry = catalogue.one("ada/digits-example-weights-0")
    for _, files in shelf.commits[entry.repo_id]:
        good = files["plots/samples.png"]
        at = good.index(b"commentary-samples\0") + len(b"commentary-samples\0")
        files["plots/samples.png"] = good[:at] + text + good[at + len(text) :]
    page = TestClient(app).get(f"/datasets/{entry.repo_id}").text
    assert 'class="tile"' not in page
    assert "<h4>Below" in page


def test_history_offers_any_two_revisions_and_shows_what_changed(client):
    page = client.get(f"{WEIGHTS}/commits/main").text
    ids = re.findall(r'name="before" value="([0-9a-f]{40})"', page)
    assert len(ids) == 2
    difference = client.get(f"{WEIGHTS}/difference", params={"before": ids[1], "after": ids[0]}).text
    assert "<del>-steps = 50</del><ins>+steps = 60</ins>" in difference
    assert "1 file changed" in difference
    assert "No difference" in client.get(f"{WEIGHTS}/difference?before={ids[0]}&after=main").text


def test_a_repository_of_many_files_and_long_lines_still_has_light_pages():
    app, _, shelf, _ = world(2)
    repo = "ada/digits-example-weights-0"
    files = shelf.commits[repo][-1][1]
    before = {f"data/{'x' * 60}/{at:04}.json": f"{at}\n".encode() for at in range(400)}
    old = shelf.commit(repo, {**files, **before}, "Many")
    after = dict.fromkeys(before, (b"y" * 300 + b"\n") * 200)
    new = shelf.commit(repo, {**files, **after}, "Long")
    client = TestClient(app)
    difference = client.get(f"/datasets/{repo}/difference", params={"before": old, "after": new})
    seen, page = set(), client.get(f"/datasets/{repo}/tree/main")
    while True:
        seen |= set(re.findall(r'/blob/[0-9a-f]{40}/([^"]+)"', page.text))
        following = re.search(r'href="(\?after=[^"]+)"', page.text)
        assert len(page.content) < 110_000
        if following is None:
            break
        page = client.get(f"/datasets/{repo}/tree/main{html.unescape(following[1])}")
    assert before.keys() <= seen
    assert len(difference.content) < 110_000
    assert "200 files changed" in difference.text
    shelf.commit(repo, {f"{at}.txt": b"" for at in range(10_001)}, "Very many")
    assert "More than 10,000 files" in client.get(f"/datasets/{repo}/tree/main").text


def test_the_header_of_a_tensor_file_is_shown(client):
    page = client.get(f"{WEIGHTS}/blob/main/commentary.safetensors").text
    assert "<code>commentary.logits</code>" in page
    assert "600 × 4" in page


@pytest.mark.parametrize(
    "described",
    [{"n<" * 450_000: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}},
     {f"{'<' * 200}{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(3000)},
     {"__metadata__": {f"k{n}": "v" * 20 for n in range(20_000)}}, {"__metadata__": {"k" * 900_000: "v"}},
     {"__metadata__": {f"k{n}": "<" * 4000 for n in range(200)}}],
)  # fmt: skip
def test_no_header_of_a_tensor_file_makes_a_heavy_page(described):
    app, _, shelf, _ = world(2)
    repo, header = "ada/digits-example-weights-0", json.dumps(described).encode()
    shelf.commit(repo, {"a.safetensors": struct.pack("<Q", len(header)) + header}, "Heavy")
    page = TestClient(app).get(f"/datasets/{repo}/blob/main/a.safetensors")
    assert page.status_code == 200
    assert "read from the header" in page.text
    assert len(page.content) < 110_000


def test_lineage_leads_up_and_down(client):
    child = client.get("/datasets/noether-lab/digits-example-weights-5").text
    assert 'made from</span> <a href="/datasets/ada/digits-example-weights-0">' in child
    assert "a spreadsheet of 2019" in child
    parent = client.get("/datasets/ada/digits-example-weights-0").text
    assert 'led to</span> <a href="/datasets/noether-lab/digits-example-weights-5">' in parent


def test_what_is_not_listed_says_why_and_plain_repositories_have_a_page(katherine):
    future = katherine.get("/datasets/katherine/from-the-future").text
    assert "Kept, but not listed" in future
    assert "format version 7" in future
    plain = katherine.get("/datasets/katherine/plain").text
    assert "holds no commentary" in plain
    assert "data/train.csv" in katherine.get("/datasets/katherine/plain/tree/main").text
    letters = katherine.get("/datasets/katherine/letters").text
    assert "2 commentaries in this repository" in letters
    assert 'href="/datasets/katherine/letters/commentaries/mixture-weights"' in letters


def test_each_kind_is_offered_the_ways_of_training_that_it_serves(client, katherine):
    page = client.get(WEIGHTS).text
    assert re.findall(r'id="way-\d"(?: checked)?>([^<]+)', page) == ["PyTorch", "Trainer", "Lightning", "Command line"]
    assert "export HF_ENDPOINT=http://testserver" in page
    inside = katherine.get("/datasets/katherine/letters/commentaries/example-weights").text
    assert "--commentary example-weights" in inside
    mixture = katherine.get("/datasets/katherine/letters/commentaries/mixture-weights").text
    assert "mixed = interleave(mixture, " in mixture


def test_a_copied_command_runs_nothing_that_a_stranger_named(made):
    entry = made[1].one("ada/digits-example-weights-0")
    *code, command = snippets(dataclasses.replace(entry, folder='commentaries/x"; curl evil'))
    assert shlex.split(command.code)[-2:] == ["--commentary", 'x"; curl evil']
    assert all(ast.parse(one.code) for one in code)
    assert endpoint_line("http://hub/;curl evil/") == "export HF_ENDPOINT='http://hub/;curl evil'"


@pytest.mark.parametrize(
    "kind",
    ["example_weights", "weight_network", "label_blend", "attention_mask", "mixture_weights", "support_weights", "new"],
)
def test_snippets_are_python_and_name_what_the_library_has(made, kind):
    entry = dataclasses.replace(made[1].one("ada/digits-example-weights-0"), kind=kind, folder="commentaries/x")
    found = snippets(entry)
    assert found[-1].code.startswith("commentary-hub pull ada/digits-example-weights-0@")
    for snippet in found[:-1]:
        tree = ast.parse(snippet.code)
        assert f'load("{entry.repo_id}@{entry.revision}", commentary="x")' in snippet.code
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("commentary_hub"):
                room = Path(__file__).parents[3].joinpath(*node.module.split("."))
                source = next(path for path in (room / "__init__.py", room.with_suffix(".py")) if path.exists())
                for alias in node.names:
                    assert f'"{alias.name}"' in source.read_text(), (snippet.title, alias.name)


def test_the_rest_interface_is_described_with_parameters_and_answers(client):
    page = client.get("/rest").text
    routes = [path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/api/commentaries")]
    assert len(routes) == 6
    for path in routes:
        assert f"curl http://testserver{path}</code>" in page
    for word in ("min_gain", "gain | updated | name", "sklearn/digits", "An answer", "best_gain_ci95"):
        assert word in page
    assert 'href="/rest"' in client.get("/").text


def test_axes_hold_zero_on_round_ticks():
    for values in ([], [0.0], [0.012, 0.043], [-0.31, -0.02], [1e-6], [-1.0, 1.0]):
        axis = charts.Axis.over(*values)
        assert axis.low <= min([0.0, *values]) <= max([0.0, *values]) <= axis.high
        assert 0.0 in axis.ticks()
        assert 2 <= len(axis.ticks()) <= 10
        assert all(0 <= axis.x(value) <= 100 for value in values)


def test_sample_sheets_are_read_back_in_the_order_of_their_weights():
    chance = random.Random(0)
    app, _, shelf, _ = world(2)
    keys = sorted(chance.randbytes(16) for _ in range(64))
    files = shelf.commits["ada/digits-example-weights-0"][-1][1]
    files["plots/samples.png"] = sample_sheet(keys, chance, CLASSES["sklearn/digits"])
    page = TestClient(app).get("/datasets/ada/digits-example-weights-0?threshold=0").text
    assert re.findall(r"<b>(0\.\d+)</b>", page) == ["0.008", "0.023", "0.039", "0.055", "0.070", "0.086"]
    assert "None on this side" in page
    assert MemoryShelf.name_of("a", 0) != MemoryShelf.name_of("a", 1)
