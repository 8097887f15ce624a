"""A kind of one's own: 25 lines, registered, learned, saved, loaded, bound; unregistered it is refused by name."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from commentary_hub.artefact import load
from commentary_hub.commentaries import Commentary, Stage, register
from commentary_hub.errors import ShapeError, UnknownKind
from commentary_hub.learning import SGD, Student, Unrolled, learn
from commentary_hub.recipes import save
from commentary_hub.reuse import bind
from tests.problems import CLASSES, blobs


@register
class ClassWeights(Commentary):
    """w(y) = softmax over classes, times their number: how much each class counts."""

    kind, stage = "test_class_weights", Stage.WEIGHT

    def __init__(self, classes):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(classes))

    def forward(self, batch, progress):
        shares = len(self.logits) * self.logits.softmax(0)
        return batch.weighted(shares[batch.targets])

    def config(self):
        return {"classes": len(self.logits)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


STUDENT = Student("linear", lambda: nn.Linear(6, CLASSES))


def learned():
    data = blobs(wrong=0.0)
    rare = data.train.subset((data.train.targets != 2) | (torch.arange(len(data.train)) % 5 == 0))
    return learn(
        ClassWeights(CLASSES), STUDENT, train=rare, validation=data.validation, method=Unrolled(), inner=SGD(lr=0.05),
        inner_steps=12, batch_size=16, outer_steps=30, outer=lambda p: torch.optim.Adam(p, lr=0.1), reduction="mean",
    )  # fmt: skip


def test_thirty_lines_are_enough():
    assert len(inspect.getsource(ClassWeights).splitlines()) <= 30


def test_a_kind_of_ones_own_goes_the_whole_way(tmp_path):
    found = learned()
    weights = found.commentary.logits.detach()
    assert weights.argmax() == 2  # the rare class counts more
    save(tmp_path / "own", found, name="own")
    stored = load(tmp_path / "own")
    assert torch.equal(stored.commentary.logits, weights)
    binding = bind(stored, TensorDataset(found.train.inputs, found.train.targets))
    batch = binding.step(found.train.inputs, found.train.targets, torch.arange(len(found.train)), 0.0)
    torch.testing.assert_close(batch.weights, (CLASSES * weights.softmax(0))[found.train.targets])


def test_who_has_not_registered_it_cannot_load_it(tmp_path):
    save(tmp_path / "own", learned(), name="own")
    script = (
        "import sys; from commentary_hub.artefact import load; from commentary_hub.errors import UnknownKind\n"
        "try: load(sys.argv[1])\n"
        "except UnknownKind as error: print(error)\n"
        "assert 'tests' not in {name.partition('.')[0] for name in sys.modules}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "own")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no commentary kind 'test_class_weights' is registered" in done.stdout
    assert issubclass(UnknownKind, LookupError)


def test_a_taken_name_and_weights_of_a_wrong_shape_are_refused():
    class Other(ClassWeights):
        kind = "example_weights"

    with pytest.raises(ValueError, match="is taken by ExampleWeights"):
        register(Other)

    class Matrix(ClassWeights):
        kind = "test_matrix_weights"

        def forward(self, batch, progress):
            return batch.weighted(self.logits[batch.targets][:, None])

    data = blobs()
    with pytest.raises(ShapeError, match=r"\[8, 1\], expected \[8\]"):
        learn(
            Matrix(CLASSES), STUDENT, train=data.train, validation=data.validation, method=Unrolled(),
            inner=SGD(lr=0.1), inner_steps=1, batch_size=8, outer_steps=1,
        )  # fmt: skip
