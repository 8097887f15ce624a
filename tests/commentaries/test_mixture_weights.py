"""Mixture weights: the loss they give is the loss that sampling by them gives; sources in, sources out."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from commentary_hub import artefact
from commentary_hub.commentaries import Batch, MixtureWeights, commented_loss, kind_class
from commentary_hub.errors import InputError, LabelError, ShapeError
from commentary_hub.learning import SGD, Implicit, Neumann, Student, Unrolled, learn
from commentary_hub.manifest import DatasetBinding, DatasetIdentity, KeyScheme
from tests.problems import along, blobs, central_difference, random_directions, relative, smooth_student, training

NAMES = ["news", "plays", "code"]
ROWS = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 1, 0])


def mixture(logits=(0.5, -1.0, 1.5), rows=ROWS):
    one = MixtureWeights(NAMES, row_sources=rows)
    with torch.no_grad():
        one.logits.copy_(torch.tensor(logits))
    return one


def batch(rows):
    return Batch(torch.zeros(len(rows), 2), torch.zeros(len(rows), dtype=torch.int64), rows=torch.tensor(list(rows)))


def test_weights_by_hand():
    exponentials = [math.exp(x) for x in (0.5, -1.0, 1.5)]
    p = [e / sum(exponentials) for e in exponentials]
    q = [6 / 12, 4 / 12, 2 / 12]
    weights = mixture()(batch([0, 5, 9, -1]), 0.3).weights
    assert weights.tolist() == pytest.approx([p[0] / q[0], p[1] / q[1], p[2] / q[2], 1.0], rel=1e-6)


def test_weighting_the_loss_is_sampling_in_the_mean():
    one, losses = mixture(), torch.linspace(0, 3, 12)
    changed = one(batch(range(12)), 0.0)
    weighted = commented_loss(losses, changed, reduction="mean", criterion=lambda outputs, targets: outputs)
    by_source = [losses[source == ROWS].mean() for source in range(3)]
    sampled = sum(p * loss for p, loss in zip(one.probabilities().values(), by_source, strict=True))
    assert float(weighted.detach()) == pytest.approx(float(sampled), rel=1e-5)


def test_a_sampler_over_the_values_draws_sources_by_the_probabilities():
    one = mixture()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor(list(WeightedRandomSampler(one.values().tolist(), 30_000, generator=generator)))
    found = torch.bincount(ROWS[drawn], minlength=3) / 30_000
    assert torch.allclose(found, torch.tensor(list(one.probabilities().values())), atol=0.01)


def test_probabilities_of_some_sources_add_up_to_one_in_the_order_asked():
    one = mixture()
    found = one.probabilities(["code", "news"])
    assert list(found) == ["code", "news"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["code"] / found["news"] == pytest.approx(math.exp(1.0))


def test_sources_that_are_not_there_take_no_part():
    one = mixture(rows=torch.tensor([0, 0, 2, 2]))
    weights = one(batch([0, 2]), 0.0).weights
    expected = one.probabilities(["news", "code"])
    assert weights.tolist() == pytest.approx([2 * expected["news"], 2 * expected["code"]], rel=1e-6)


def test_another_assignment_shares_what_is_learned():
    one = mixture()
    other = one.assigned(torch.tensor([2, 2, 1]))
    assert other.logits is one.logits
    assert len(other.values()) == 3
    assert len(one.values()) == 12
    assert torch.equal(one.assigned([2, 2, 1]).values(), other.values())


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_hypergradients_agree_with_central_differences(reduction):
    torch.manual_seed(1)
    problem = training([mixture()], smooth_student(), inner=SGD(lr=0.05), reduction=reduction)
    directions = random_directions(problem)
    truth = central_difference(problem, problem.start(), directions)
    for memory in ("full", "stored", "checkpoints"):
        found = Unrolled(memory=memory).hypergradient(problem, problem.start())
        assert relative((along(found.value, directions),), (truth,)) < 1e-6
    assert all(
        torch.isfinite(g).all() for g in Implicit(Neumann(2, 0.05)).hypergradient(problem, problem.start()).value
    )


def test_learning_finds_the_source_that_is_right():
    data = blobs(wrong=0.5, seed=1)
    one = MixtureWeights(["right", "wrong"], row_sources=data.mistaken.long())
    learn(
        one,
        Student("smooth", smooth_student),
        train=data.train,
        validation=data.validation,
        method=Unrolled(),
        inner=SGD(lr=0.3),
        inner_steps=20,
        batch_size=20,
        outer_steps=15,
    )
    assert one.probabilities()["right"] > 0.9


def test_learning_wants_a_source_for_every_row():
    data = blobs()
    student = Student("smooth", smooth_student)
    settings = {"method": Unrolled(), "inner": SGD(lr=0.1), "inner_steps": 2, "batch_size": 4, "outer_steps": 1}
    for one in (MixtureWeights(NAMES), MixtureWeights(NAMES, row_sources=torch.zeros(7, dtype=torch.int64))):
        with pytest.raises(ShapeError, match=r"there are 60 training examples: build MixtureWeights"):
            learn(one, student, train=data.train, validation=data.validation, **settings)


def test_an_artefact_keeps_names_and_weights_but_no_rows(tmp_path):
    one = mixture()
    binding = DatasetBinding(
        identity=DatasetIdentity(id="a mixture"), fingerprint="0" * 32, rows=12, validation_rows=1,
        key=KeyScheme(form="none"), classes=None,
    )  # fmt: skip
    artefact.save(tmp_path / "m", one, name="mixture", dataset=binding, loss_reduction="mean")
    read = artefact.load(tmp_path / "m").commentary
    assert isinstance(read, kind_class("mixture_weights"))
    assert read.probabilities() == one.probabilities()
    assert torch.equal(read.assigned(ROWS).values(), one.values())
    with pytest.raises(ShapeError, match="assigned"):
        read(batch([0]), 0.0)


@pytest.mark.parametrize(
    ("sources", "rows", "error", "match"),
    [
        ([], None, InputError, "a name for each"),
        ("news", None, InputError, "a name for each"),
        (["a", "a"], None, InputError, "name of its own"),
        (NAMES, torch.zeros(3), ShapeError, r"torch.float32 \[3\], expected int64"),
        (NAMES, torch.zeros(3, 1, dtype=torch.int64), ShapeError, r"\[3, 1\]"),
        (NAMES, torch.tensor([0, 3]), LabelError, "run from 0 to 3, but there are 3 sources"),
        (NAMES, torch.tensor([-1, -1]), LabelError, "no row has a source"),
    ],
)
def test_wrong_sources_are_named(sources, rows, error, match):
    with pytest.raises(error, match=match):
        MixtureWeights(sources, row_sources=rows)


def test_a_batch_without_rows_and_an_unknown_source_are_named():
    with pytest.raises(ShapeError, match=r"batch\.rows"):
        mixture()(Batch(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)), 0.0)
    with pytest.raises(InputError, match="no source 'poems'"):
        mixture().probabilities(["news", "poems"])
    with pytest.raises(InputError, match="was named"):
        mixture().probabilities([])


def test_the_interleaved_dataset_has_the_probabilities():
    datasets = pytest.importorskip("datasets")
    one = mixture()
    parts = [datasets.Dataset.from_dict({"source": [name] * 4_000}) for name in NAMES]
    mixed = datasets.interleave_datasets(parts, probabilities=list(one.probabilities().values()), seed=0)
    found = np.unique(mixed["source"], return_counts=True)
    shares = dict(zip(found[0].tolist(), (found[1] / len(mixed)).tolist(), strict=True))
    for name, p in one.probabilities().items():
        assert shares[name] == pytest.approx(p, abs=0.02)
