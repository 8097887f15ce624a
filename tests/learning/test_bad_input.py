"""What cannot work is said before the run begins, by name, with the mend."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from commentary_hub.commentaries import ExampleWeights, LabelBlend
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import InputError, LabelError, NotDifferentiable, ShapeError, SplitError, StatefulModule
from commentary_hub.learning import SGD, Student, Unrolled, learn
from tests.problems import CLASSES, TinyMask, TinyWeights, blobs, smooth_student


def start(student=smooth_student, *, data=None, train=None, validation=None, commentary=None, **options):
    """Start a run that must not take a step."""
    data = data or blobs()
    train = data.train if train is None else train
    validation = data.validation if validation is None else validation
    settings = {"method": Unrolled(), "inner": SGD(lr=0.1), "inner_steps": 3, "batch_size": 6, "outer_steps": 2}
    settings |= {"progress": lambda report: pytest.fail("the run began")} | options
    one = commentary or ExampleWeights(rows=len(train))
    return learn(one, Student("mine", student), train=train, validation=validation, **settings)


class Wide(TinyWeights):
    """Weights of shape [B, 1]."""

    kind = "wide"

    def forward(self, batch, progress):
        flat = batch.inputs.flatten(1)
        return batch.weighted(torch.sigmoid(self.layer(torch.cat([flat, flat[:, :1]], 1))))


def test_weights_with_an_axis_too_many_are_named_with_their_shape():
    with pytest.raises(ShapeError, match=r"example weights have shape \[6, 1\], expected \[6\]") as caught:
        start(commentary=Wide(6))
    assert (caught.value.tensor, caught.value.shape) == ("weights", (6, 1))


def test_losses_that_are_not_one_per_example_are_named_with_their_shape():
    """Outputs [B, 1] against targets [B] would broadcast to [B, B]."""
    with pytest.raises(ShapeError, match=r"shape \[6, 6\] for 6 examples") as caught:
        start(lambda: nn.Linear(6, 1), criterion=lambda outputs, targets: (outputs - targets).square())
    assert caught.value.tensor == "losses"


def test_a_label_out_of_range_is_named():
    data = blobs()
    wrong = data.train.targets.clone()
    wrong[3] = 7
    with pytest.raises(LabelError, match=r"train\.targets hold labels from 0 to 7, but there are 3 classes"):
        start(train=replace(data.train, targets=wrong))


def test_a_student_with_too_few_outputs_is_named():
    data = blobs()
    plain = lambda one: Examples.of(one.inputs, one.targets, keys=one.keys)
    with pytest.raises(LabelError, match=r"student 'mine' has fewer outputs than there are labels \(0 to 2\)"):
        start(lambda: nn.Linear(6, 2), train=plain(data.train), validation=plain(data.validation))


def test_a_commentary_for_another_number_of_classes_is_refused():
    with pytest.raises(LabelError, match="'label_blend' is built for 5 classes, the training set has 3"):
        start(commentary=LabelBlend(classes=5))


def test_a_table_of_another_length_is_refused():
    with pytest.raises(ShapeError, match=r"10 rows for 60 training examples: build ExampleWeights\(rows=60\)"):
        start(commentary=ExampleWeights(rows=10))


@pytest.mark.parametrize("name", ["train", "validation"])
def test_an_empty_set_is_refused(name):
    data = blobs()
    empty = getattr(data, name).subset(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(SplitError, match=f"the {name} set is empty"):
        start(commentary=TinyMask(6), **{"train": data.train, "validation": data.validation, name: empty})


def test_overlapping_splits_are_refused():
    data = blobs()
    with pytest.raises(SplitError, match=r"train.*validation"):
        start(data=data, validation=data.train.subset(torch.arange(5)))


def test_classes_of_other_names_are_refused():
    """A split alone may lack a class, and the numbers of those after it shift."""
    data = blobs()
    named = lambda part, names: replace(part, classes=names)
    with pytest.raises(LabelError, match="train has 3 classes and validation 2; number 1 is 'cat' in train and 'dog'"):
        start(
            train=named(data.train, ("bird", "cat", "dog")),
            validation=named(data.validation.with_targets(data.validation.targets % 2), ("bird", "dog")),
        )


def test_inputs_of_different_shapes_are_refused():
    data = blobs()
    other = data.validation.inputs[:, :4]
    validation = Examples.of(other, data.validation.targets, keys=content_keys(other.numpy()))
    with pytest.raises(ShapeError, match=r"train inputs are \[6\] each, validation inputs \[4\]"):
        start(validation=validation)


class Detaching(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs).detach()


def test_a_loss_that_is_not_differentiable_is_refused():
    with pytest.raises(NotDifferentiable, match="does the student or the criterion detach"):
        start(lambda: Detaching(6, CLASSES))


def test_a_student_without_trainable_parameters_is_refused():
    with pytest.raises(NotDifferentiable, match="no parameter that requires a gradient"):
        start(lambda: smooth_student().requires_grad_(requires_grad=False))


class Unused(TinyMask):
    """Its parameters change nothing."""

    kind = "unused"

    def forward(self, batch, progress):
        return batch


def test_a_commentary_that_nothing_depends_on_is_refused():
    with pytest.raises(NotDifferentiable, match=r"no gradient reaches the commentary \(unused\)"):
        start(commentary=Unused(6))


class Counting(nn.Module):
    """Keeps state in a buffer that is no running statistic."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, inputs):
        self.mean.add_(inputs.detach().mean(0))
        return self.layer(inputs - self.mean)


class Remembering(nn.Module):
    """Keeps state in an attribute."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(6, CLASSES), 0

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs) * self.calls


class Overwriting(nn.Module):
    """Overwrites what its own derivative needs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, inputs):
        hidden = torch.tanh(self.layer(inputs))
        hidden.mul_(2)
        return hidden


@pytest.mark.parametrize(
    ("student", "words"),
    [
        (Counting, r"writes its buffer 'mean' \[6\] in place"),
        (Remembering, "another gradient the second time"),
        (Overwriting, "changes a tensor in place"),
    ],
)
def test_state_in_place_is_refused_by_name(student, words):
    with pytest.raises(StatefulModule, match=words):
        start(student)


def test_a_student_for_other_inputs_is_refused():
    with pytest.raises(InputError, match=r"student 'mine' cannot be trained on inputs \[6\]"):
        start(lambda: nn.Linear(4, CLASSES))


@pytest.mark.parametrize("setting", ["inner_steps", "batch_size", "outer_steps"])
def test_counts_begin_at_one(setting):
    with pytest.raises(InputError, match=f"{setting} is 0: give a whole number of at least 1"):
        start(**{setting: 0})


@pytest.mark.parametrize("setting", ["outer_batch_size", "sink_every"])
def test_other_counts_begin_at_one_too(setting):
    with pytest.raises(InputError, match=f"{setting} is 0: give a whole number of at least 1"):
        start(**{setting: 0})


def test_an_outer_optimiser_that_needs_a_closure_is_refused():
    with pytest.raises(InputError, match="LBFGS"):
        start(outer=torch.optim.LBFGS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"truncate": 2.5}, "truncate is 2.5: give how many of the last steps"),
        ({"memory": 1e6}, "memory is 1000000.0: give 'full', 'stored', 'checkpoints' or a whole number of bytes"),
        ({"memory": True}, "memory is True"),
        ({"memory": 0}, "memory is 0"),
        ({"backward_dtype": torch.float32}, "backward_dtype is torch.float32: give torch.float64, or None"),
        ({"backward_dtype": torch.bfloat16}, "backward_dtype is torch.bfloat16"),
        ({"backward_dtype": "float64"}, "backward_dtype is 'float64'"),
    ],
)
def test_a_method_whose_settings_mean_nothing_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Unrolled(**settings)


@pytest.mark.parametrize(("settings", "words"), [
    ({"students": nn.Linear(6, 3)}, r"a student is Linear: give Student\(name, build\)"),
    ({"students": Student("s", nn.Linear(6, 3))}, r"build being a function that makes a fresh module"),
    ({"method": Unrolled}, r"method is Unrolled: give a value .* Unrolled\(\)"),
    ({"inner": torch.optim.SGD}, r"inner is SGD: give a value .* SGD\(lr=0.1\)"),
    ({"train": TensorDataset(torch.zeros(3, 6))}, "train is TensorDataset: give Examples"),
    ({"device": "gpu"}, "there is no device 'gpu' here: choose from cpu"),
    ({"inner_steps": 3.0}, r"inner_steps is 3\.0: give a whole number"),
    ({"clip_norm": -1.0}, r"clip_norm is -1\.0: give a finite number above 0"),
    ({"clip_norm": float("nan")}, "clip_norm is nan"),
])  # fmt: skip
def test_what_is_no_student_method_or_setting_is_named(settings, words):
    data = blobs()
    given = {
        "students": Student("linear", lambda: nn.Linear(6, CLASSES)), "train": data.train, "method": Unrolled(),
        "inner": SGD(lr=0.1), "inner_steps": 2,
    } | settings  # fmt: skip
    with pytest.raises(InputError, match=words):
        learn(
            ExampleWeights(rows=len(data.train)), given.pop("students"), validation=data.validation, batch_size=4,
            outer_steps=1, **given,
        )  # fmt: skip


def test_learning_goes_on_where_gradients_are_off():
    data = blobs()
    with torch.no_grad():
        found = learn(
            ExampleWeights(rows=len(data.train)), Student("linear", lambda: nn.Linear(6, CLASSES)), train=data.train,
            validation=data.validation, method=Unrolled(), inner=SGD(lr=0.1), inner_steps=2, batch_size=4,
            outer_steps=1,
        )  # fmt: skip
    assert found.history[0]["hypergradient_norm"] > 0
