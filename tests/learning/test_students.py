"""Students as people have them: what is taught rightly whatever it does, and what is refused by name before the run."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import commentary_hub as ch
from commentary_hub.commentaries import ExampleWeights, binary_cross_entropy, squared_error, token_cross_entropy
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import InputError, LabelError, NotDifferentiable, StatefulModule
from commentary_hub.learning import SGD, Adam, Student, Unrolled, learn
from tests.problems import CLASSES, along, blobs, central_difference, random_directions, relative, table, training


def taught(build, *, data=None, inner=None, **options):
    data = data or blobs()
    settings = {"method": Unrolled(), "inner_steps": 3, "batch_size": 6, "outer_steps": 2} | options
    return learn(
        ExampleWeights(rows=len(data.train)), Student("mine", build), train=data.train, validation=data.validation,
        inner=inner or SGD(lr=0.1), **settings,
    )  # fmt: skip


def exact(student, **options):
    """Central differences agree, and memory modes to the last digits."""
    problem = training([table()], student, **options)
    directions = random_directions(problem)
    truth = central_difference(problem, problem.start(), directions)
    found = [Unrolled(memory=memory).hypergradient(problem, problem.start()) for memory in ("full", "stored")]
    return (
        relative((along(found[0].value, directions),), (truth,)) < 1e-6 and relative(*(f.value for f in found)) < 1e-10
    )


class Checkpointed(nn.Sequential):
    def __init__(self, *, reentrant):
        super().__init__(nn.Linear(6, 7), nn.Linear(7, CLASSES))
        self.reentrant = reentrant

    def forward(self, inputs):
        inner = lambda x: self[1](torch.tanh(x))
        return checkpoint(inner, self[0](inputs), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_is_refused(reentrant):
    with pytest.raises(NotDifferentiable, match=r"gradient checkpointing.*turn that off"):
        taught(lambda: Checkpointed(reentrant=reentrant))


class Backbone(nn.Module):
    """Transfer learning: a frozen part with dropout and normalisation, built in evaluation mode, or held in it."""

    def __init__(self, *, held):
        super().__init__()
        self.held = held
        self.back = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5))
        self.back.requires_grad_(False).eval()
        self.head = nn.Linear(8, CLASSES)

    def train(self, mode=True):
        super().train(mode)
        if self.held:
            self.back.eval()
        return self

    def forward(self, inputs):
        return self.head(self.back(inputs))


@pytest.mark.parametrize("held", [True, False])
def test_a_frozen_part_is_in_the_mode_that_training_puts_it_in(held):
    torch.manual_seed(1)
    student = Backbone(held=held)
    student.back[1].running_mean.normal_()
    assert exact(student, steps=4)
    before = student.back[1].running_mean.clone()
    assert taught(lambda: copy.deepcopy(student)).history
    assert torch.equal(student.back[1].running_mean, before)


def test_a_student_is_judged_by_its_gradient_not_by_how_far_a_step_goes():
    import numpy as np

    class Foreign(nn.Linear):
        def forward(self, inputs):
            kept = torch.from_numpy(np.random.default_rng().random(inputs.shape) < 0.5)
            return super().forward(inputs * kept)

    with pytest.raises(StatefulModule, match="another gradient the second time"):
        taught(lambda: Foreign(6, CLASSES), inner=SGD(lr=1e-6))
    normed = lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 8, 3), nn.GroupNorm(8, 8), nn.Flatten(),
                                   nn.Linear(32, CLASSES))  # fmt: skip
    assert taught(normed, inner=Adam(lr=0.1)).history  # biases whose gradient is 0 but for rounding


class Noisy(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs + torch.randn_like(inputs))


def test_a_float64_sweep_that_would_draw_other_numbers_is_refused():
    problem = training([table()], Noisy(6, CLASSES), steps=3)
    assert Unrolled().hypergradient(problem, problem.start())
    with pytest.raises(StatefulModule, match="what it draws depends on the type of its inputs"):
        taught(lambda: Noisy(6, CLASSES), method=Unrolled(backward_dtype=torch.float64))


def test_augmentations_may_draw_from_torchs_generator():
    assert taught(lambda: nn.Linear(6, CLASSES), augmentation=lambda inputs, seed: inputs + torch.randn(1)).history


def test_parameters_that_training_would_not_reach_are_refused():
    class Listed(nn.Linear):
        def __init__(self):
            super().__init__(6, CLASSES)
            self.own = [self.weight]

        def forward(self, inputs):
            return functional.linear(inputs, self.own[0], self.bias)

    with pytest.raises(StatefulModule, match="uses its parameter 'weight' past its name"):
        taught(Listed)


def test_outputs_that_are_no_tensor_are_refused():
    class Wrapped(nn.Linear):
        def forward(self, inputs):
            return {"logits": super().forward(inputs)}

    with pytest.raises(InputError, match=r"returned a dict, expected a tensor of logits: wrap it"):
        taught(lambda: Wrapped(6, CLASSES))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.out = nn.Linear(2, 4), nn.Linear(12, CLASSES)

    def forward(self, inputs):
        tokens = self.queries(inputs.reshape(len(inputs), 1, 3, 2))
        return self.out(functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1))


def test_attention_has_the_second_derivative_that_pytorchs_fused_one_lacks():
    torch.manual_seed(1)
    assert exact(Attention(), steps=3)
    assert taught(Attention).history


@pytest.mark.parametrize("activation", [nn.Hardsigmoid])
def test_operations_without_a_second_derivative_are_named(activation):
    with pytest.raises(NotDifferentiable, match=r"hardsigmoid_backward.*take another one"):
        taught(lambda: nn.Sequential(nn.Linear(6, 5), activation(), nn.Linear(5, CLASSES)))


def test_a_buffer_under_two_names_is_one():
    class Twice(nn.Linear):
        def __init__(self):
            super().__init__(6, CLASSES)
            self.register_buffer("scale", torch.ones(1))
            self.register_buffer("again", self.scale)

        def forward(self, inputs):
            return super().forward(inputs * self.scale * self.again)

    assert taught(Twice).history


def test_a_student_that_keeps_what_it_worked_out_cannot_be_copied():
    class Keeping(nn.Linear):
        def forward(self, inputs):
            self.last = super().forward(inputs)
            return self.last

    assert taught(lambda: Keeping(6, CLASSES)).history
    with pytest.raises(InputError, match=r"Keeping cannot be copied .*keep no tensors"):
        taught(lambda: Keeping(6, CLASSES), method=Unrolled(backward_dtype=torch.float64))


def rare(count, seed, wide=0):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 5, (count, 4), generator=generator)
    targets = torch.arange(count) % 2
    targets[-1] = 2 if count > 2 else 0
    inputs[-1, 0] += wide
    keys = content_keys(inputs.double().numpy() + seed / 8)
    return Examples.of(inputs, targets, keys=keys)


@pytest.mark.parametrize(("outputs", "wide", "error"), [(2, 0, LabelError), (3, 9, InputError)])
def test_rare_labels_and_ids_are_looked_at_before_the_run(outputs, wide, error):
    data = blobs()
    data.train, data.validation = rare(41, 0, wide), rare(2, 1)
    build = lambda: nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(16, outputs))
    with pytest.raises(error, match=r"fewer outputs than there are labels|is its vocabulary larger"):
        taught(build, data=data, batch_size=2, outer_batch_size=1)


def test_tokens_without_a_label_go_with_named_classes():
    generator = torch.Generator().manual_seed(0)

    def tokens(count, seed):
        inputs = torch.randint(0, 9, (count, 4), generator=generator)
        targets = torch.randint(0, 3, (count, 4), generator=generator)
        targets[:, -1] = -100
        return Examples.of(inputs, targets, keys=content_keys(inputs.double().numpy() + seed / 8), classes=list("abc"))

    data = blobs()
    data.train, data.validation = tokens(20, 0), tokens(6, 1)
    build = lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    assert taught(build, data=data, criterion=token_cross_entropy).history


@pytest.mark.parametrize(("targets", "criterion", "outputs"), [
    (torch.randn(20, generator=torch.Generator().manual_seed(0)), squared_error, 1),
    (torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).round(), binary_cross_entropy, 3),
], ids=["numbers", "several labels"])  # fmt: skip
def test_targets_that_are_no_classes_are_learned_with_kept_and_found_again(tmp_path, targets, criterion, outputs):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(20, 6, generator=generator)
    whole = Examples.of(inputs, targets, keys=content_keys(inputs.numpy()))
    data = blobs()
    data.train, data.validation = whole.subset(range(14)), whole.subset(range(14, 20))
    found = taught(lambda: nn.Linear(6, outputs), data=data, criterion=criterion)
    ch.save(tmp_path, found, name="numbers")
    binding = ch.bind(ch.load(tmp_path), data.train, criterion=criterion)
    assert binding.counts.found == 14
    assert torch.isfinite(binding.loss(nn.Linear(6, outputs), *(t[:14] for t in (inputs, targets)), torch.arange(14)))
    with pytest.raises(LabelError, match="have no classes"):
        _ = whole.class_count


def test_a_reduction_that_does_not_exist_is_refused():
    with warnings.catch_warnings(), pytest.raises(InputError, match="reduction is 'average': choose sum, mean"):
        taught(lambda: nn.Linear(6, CLASSES), reduction="average")
