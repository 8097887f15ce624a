"""Experiment 6, its own parts: controls that keep the numbers, a rate for each part, alphabets as groups of classes."""

import pytest
import torch
from PIL import Image

from benchmarks.paper.few_shot import experiment
from commentary_hub.commentaries import Batch, SupportWeights
from commentary_hub.data import LOCAL_COPIES
from commentary_hub.networks import Conv4

datasets = pytest.importorskip("datasets")


def weights():
    torch.manual_seed(0)
    return SupportWeights("mlp", {"inputs": 4, "hidden": [], "classes": 3})


def support():
    return Batch(torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2]))


def test_controls_keep_the_weights_of_the_episode_but_not_their_places():
    batch, ours = support(), weights()
    found = ours(batch, 0.5).weights
    shuffled = experiment.Rearranged(ours, replacement=False)(batch, 0.5).weights
    drawn = experiment.Rearranged(ours, replacement=True)(batch, 0.5).weights
    assert torch.equal(shuffled.sort().values, found.sort().values)
    assert not torch.equal(shuffled, found)
    assert set(drawn.tolist()) <= set(found.tolist())
    again = experiment.Rearranged(ours, replacement=False)(batch, 0.5).weights
    assert torch.equal(shuffled, again)


def test_the_encoder_starts_as_the_students_features():
    student = Conv4(1, 5, width=6)
    settings = {"student": {"name": "conv4", "settings": {"channels": 1, "width": 6}}}
    found = experiment._weights(student, settings, 0)
    pictures = torch.rand(4, 1, 28, 28)
    assert torch.allclose(found.encoder(pictures), student.features(pictures), atol=1e-6)


def test_each_part_learns_at_its_own_rate():
    ours, student = weights(), Conv4(1, 5, width=4)
    rates = {"student": 0.1, "encoder": 0.2, "score": 0.3}
    parameters = [*ours.parameters(), *student.parameters()]
    groups = experiment._optimiser(rates, ours, parameters).param_groups
    rate_of = {id(group["params"][0]): group["lr"] for group in groups}
    assert {rate_of[id(p)] for p in ours.encoder.parameters()} == {0.2}
    assert {rate_of[id(p)] for p in ours.score.parameters()} == {0.3}
    assert {rate_of[id(p)] for p in student.parameters()} == {0.1}


def test_characters_of_an_alphabet_are_classes_and_shared_alphabets_come_once(tmp_path, monkeypatch):
    folder = tmp_path / "owner" / "letters" / "data"
    folder.mkdir(parents=True)
    shades = iter(range(40))
    picture = lambda: Image.new("L", (20, 20), color=255 - next(shades))
    for part, alphabets in (("small1", ["A", "B"]), ("small2", ["B", "C"])):
        rows = [(picture(), alphabet, f"character{n:02d}") for alphabet in alphabets for n in (1, 2) for _ in range(2)]
        columns = dict(zip(("image", "alphabet", "character"), map(list, zip(*rows, strict=True)), strict=True))
        features = datasets.Features(image=datasets.Image(), alphabet=datasets.Value("string"),
                                     character=datasets.Value("string"))  # fmt: skip
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{part}-00000-of-00001.parquet")
    monkeypatch.setenv(LOCAL_COPIES, str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = experiment.omniglot({"parts": ["small1", "small2"], "dataset": "owner/letters", "size": [8, 8]})
    assert sorted(found) == ["A", "B", "C"]
    assert all(len(one) == 4 for one in found.values())
    both = experiment._of_alphabets(found, ["A", "B", "C"])
    assert both.targets.tolist() == [0, 0, 1, 1, 100, 100, 101, 101, 200, 200, 201, 201]
    assert float(both.inputs.max()) < 0.2  # paper is 0, ink is 1
    assert tuple(both.inputs.shape) == (12, 1, 8, 8)
