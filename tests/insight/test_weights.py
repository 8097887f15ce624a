import subprocess
import sys

import numpy as np
import pytest
import torch

from commentary_hub.artefact import attach
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import open_examples
from commentary_hub.errors import ShapeError, WrongDataset
from commentary_hub.insight import pictures
from commentary_hub.insight._weights import curves, histogram
from commentary_hub.manifest import Iterations
from tests.insight.pictured import check_picture, digits, stored


def table(mistaken, stages=1):
    weights = ExampleWeights(rows=len(mistaken), stages=stages)
    growth = torch.linspace(0.3, 1.5, stages)
    with torch.no_grad():
        sign = 1 - 2 * mistaken.float()
        noise = torch.randn(len(mistaken), generator=torch.Generator().manual_seed(0))
        weights.logits.copy_((2 * sign + noise)[:, None] * growth)
    return weights


def test_a_table_without_its_examples_is_a_histogram(tmp_path):
    examples, mistaken = digits()
    found = pictures(stored(tmp_path, table(mistaken), examples=examples))
    assert list(found) == ["weights.png"]
    content, alt = found["weights.png"]
    check_picture(content, alt=alt)
    assert "300 examples" in alt


def test_stages_are_curves_over_training(tmp_path):
    examples, mistaken = digits()
    one = stored(
        tmp_path, table(mistaken, stages=6), examples=examples, iterations=Iterations(steps=600, batch_size=32)
    )
    found = pictures(one)
    assert list(found) == ["weights.png", "curves.png"]
    for content, alt in found.values():
        check_picture(content, alt=alt)
    assert "6 stages" in found["curves.png"][1]


def test_the_examples_of_highest_and_lowest_weight_are_shown_wherever_they_stand(tmp_path, monkeypatch):
    examples, mistaken = digits()
    commentary = table(mistaken)
    one = stored(tmp_path, commentary, examples=examples)
    shown = {}

    def record(inputs, captions, *, title):
        shown[title.split()[-2]] = inputs, captions
        return b""

    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("commentary_hub.insight._extremes.thumbnails", record)
    found = pictures(one, examples.subset(order))
    assert list(found) == ["weights.png", "highest.png", "lowest.png", "samples.png"]
    best = commentary.values()[:, 0].argsort(descending=True)
    inputs, captions = shown["highest"]
    assert torch.equal(inputs, examples.inputs[best[:24]])
    assert captions[0] == f"{int(examples.targets[best[0]])} · {float(commentary.values()[best[0], 0]):.2f}"
    assert torch.equal(shown["lowest"][0], examples.inputs[best.flip(0)[:24]])


def test_corrected_labels_and_strangers_have_no_weight_to_show(tmp_path, monkeypatch):
    examples, mistaken = digits()
    one = stored(tmp_path, table(mistaken), examples=examples)
    counts = []
    monkeypatch.setattr(
        "commentary_hub.insight._extremes.thumbnails", lambda inputs, captions, title: counts.append(len(inputs)) or b""
    )
    changed = examples.subset(range(10)).with_targets((examples.targets[:10] + 1) % 10)
    pictures(one, type(examples).concatenated(changed, examples.subset(range(10, 20))))
    assert counts == [5, 5]
    with pytest.raises(WrongDataset, match="10 have another target"):
        pictures(one, changed)
    with pytest.raises(WrongDataset, match="none of the 7 examples"):
        pictures(one, open_examples("sklearn:digits").subset(range(1000, 1007)))


def test_grids_are_pictures_and_can_be_attached(tmp_path):
    examples, mistaken = digits()
    one = stored(tmp_path, table(mistaken), examples=examples)
    found = pictures(one, examples)
    for name, (content, alt) in found.items():
        if name != "samples.png":
            check_picture(content, alt=alt)
    assert pictures(one, examples) == found
    assert "plots/highest.png" in attach(tmp_path, plots=found).files
    assert f"![{found['lowest.png'][1]}](plots/lowest.png)" in (tmp_path / "README.md").read_text()


def test_rows_that_are_no_pictures_have_no_grids(tmp_path):
    examples, mistaken = digits()
    flat = type(examples).of(examples.inputs.flatten(1), examples.targets, keys=examples.keys)
    assert list(pictures(stored(tmp_path, table(mistaken), examples=examples), flat)) == ["weights.png"]


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [0.5] * 50, list(np.linspace(0, 7, 100))])
def test_any_weights_can_be_drawn(values):
    content, alt = histogram(np.array(values), of="some examples")
    check_picture(content, alt=alt)
    content, alt = curves(np.array(values)[:, None].repeat(3, 1), of="some examples")
    check_picture(content, alt=alt)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((3, 1)), np.array([np.nan])])
def test_no_weights_no_picture(values):
    with pytest.raises(ShapeError, match="expected \\[examples\\] of finite numbers"):
        histogram(values, of="nothing")


def test_the_median_stands_where_it_is():
    low, high = (check_picture(histogram(np.full(9, at), of="x")[0]) for at in (0.2, 0.8))
    dark = [(picture[200:500].sum(2) < 120).float().mean(0).argmax().item() for picture in (low, high)]
    assert 0.2 < dark[0] / 1200 < 0.32
    assert 0.75 < dark[1] / 1200 < 0.85


def test_without_matplotlib_the_missing_extra_is_named():
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy, commentary_hub.insight\n"
        "from commentary_hub.errors import MissingExtra\n"
        "from commentary_hub.insight._weights import histogram\n"
        "try:\n    histogram(numpy.ones(3), of='x')\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pictures need matplotlib: pip install 'commentary-hub[demo]'"


def test_pyplot_and_windows_stay_out():
    script = (
        "import sys, numpy\nfrom commentary_hub.insight._weights import histogram\nhistogram(numpy.ones(3), of='x')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
