"""Few-shot: episodes; MAML and ANIL against unrolls by hand and central differences; runs that are resumed."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from commentary_hub.commentaries import SupportWeights, cross_entropy
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import Diverged, InputError, Interrupted, NotDifferentiable, SplitError, StatefulModule
from commentary_hub.learning import (
    SGD,
    Adam,
    Adaptation,
    ConjugateGradient,
    Episodes,
    EpisodeTraining,
    Implicit,
    Student,
    Unrolled,
    check_new_classes,
    initialisation_of,
    learn_episodes,
)
from commentary_hub.networks import Conv4
from tests.problems import along, central_difference, random_directions, relative, table


def examples(classes=8, *, first=0, each=9, seed=0):
    """Classes as clusters in four dimensions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(each)
    centres = 2 * torch.randn(classes, 4, generator=generator)
    inputs = centres[labels] + 0.5 * torch.randn(classes * each, 4, generator=generator)
    return Examples.of(inputs, labels + first, keys=content_keys(inputs.numpy()))


class Small(nn.Module):
    """A smooth student with a body and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(torch.tanh(self.body(inputs)))


def support_weights():
    torch.manual_seed(3)
    return SupportWeights("mlp", {"inputs": 4, "hidden": [5], "classes": 3, "smooth": True}, hidden=4)


def problem(adaptation, *, commentaries=None, learned=True, wrong=0.3):
    torch.manual_seed(2)
    student = Small().double()
    chosen = [support_weights()] if commentaries is None else commentaries
    episode = Episodes(examples(), ways=3, shots=3, queries=4, wrong=wrong).draw(7)
    return EpisodeTraining(
        student,
        initialisation_of(student, learned=learned),
        tuple(one.double() for one in chosen),
        episode.double(),
        adaptation,
    )


MAML = Adaptation(SGD(lr=0.3), steps=2, reduction="mean")
ANIL = replace(MAML, head="head")


def test_an_episode_is_a_function_of_its_seed_and_its_examples_are_apart():
    episodes = Episodes(examples(), ways=4, shots=2, queries=3, wrong=0.5)
    one, same, other = episodes.draw(1), episodes.draw(1), episodes.draw(2)
    assert torch.equal(one.inputs, same.inputs)
    assert not torch.equal(one.inputs, other.inputs)
    everything = torch.cat([one.inputs, one.query_inputs])
    assert len(torch.unique(everything, dim=0)) == 4 * 5
    right = torch.arange(4).repeat_interleave(2)
    assert torch.equal(one.targets != right, one.mistaken)
    assert int(one.mistaken.sum()) == 4
    assert one.query_targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_an_episode_takes_support_and_queries_of_a_class_from_that_class():
    data = examples()
    episode = Episodes(data, ways=4, shots=2, queries=3).draw(5)
    label_of = {tuple(x.tolist()): int(y) for x, y in zip(data.inputs, data.targets, strict=True)}
    for way in range(4):
        support = {label_of[tuple(x.tolist())] for x in episode.inputs[episode.targets == way]}
        queries = {label_of[tuple(x.tolist())] for x in episode.query_inputs[episode.query_targets == way]}
        assert support == queries
        assert len(support) == 1


def test_maml_by_two_steps_written_by_hand():
    one = problem(MAML, commentaries=[])
    episode, first = one.episode, one.initialisation
    loss = lambda p: functional.cross_entropy(functional_call(one.student, p, (episode.inputs,)), episode.targets)
    moved = dict(first)
    for _ in range(2):
        slopes = torch.autograd.grad(loss(moved), tuple(moved.values()), create_graph=True)
        moved = {name: p - 0.3 * g for (name, p), g in zip(moved.items(), slopes, strict=True)}
    outer = functional.cross_entropy(
        functional_call(one.student, moved, (episode.query_inputs,)), episode.query_targets
    )
    truth = torch.autograd.grad(outer, tuple(first.values()))
    for memory in ("full", "stored", "checkpoints"):
        found = Unrolled(memory=memory).hypergradient(one, one.start())
        assert relative(found.value, truth) < 1e-14
        assert found.outer_loss == pytest.approx(float(outer.detach()), rel=1e-14)


@pytest.mark.parametrize("adaptation", [MAML, ANIL, replace(MAML, inner=Adam(0.05, eps_root=1e-4)),
                                        replace(ANIL, steps=4, proximity=0.7)],
                         ids=lambda one: one.name)  # fmt: skip
@pytest.mark.parametrize("learned", [True, False], ids=["initialisation learned", "commentary alone"])
def test_central_differences_agree(adaptation, learned):
    one = problem(adaptation, learned=learned)
    directions = random_directions(one)
    truth = central_difference(one, one.start(), directions)
    for memory in ("full", "stored"):
        found = Unrolled(memory=memory).hypergradient(one, one.start())
        assert relative((along(found.value, directions),), (truth,)) < 1e-6


def test_float64_copies_are_the_same_problem():
    one = problem(MAML)
    found = Unrolled().hypergradient(one, one.start())
    again = Unrolled().hypergradient(one.double(), one.start())
    assert relative(found.value, again.value) < 1e-14


def test_anil_adapts_the_head_alone_and_still_teaches_the_body():
    one = problem(ANIL)
    after = one.adapted()
    assert [tuple(p.shape) for p in after.parameters] == [(3, 6), (3,)]
    assert not torch.equal(after.parameters[0], one.initialisation["head.weight"])
    found = Unrolled().hypergradient(one, one.start())
    names = [name for name, _ in one.student.named_parameters()]
    body = dict(zip(names, found.value[-len(names) :], strict=True))["body.weight"]
    assert float(body.norm()) > 0


def test_implicit_with_proximity_is_imaml():
    """At the minimum of L + λ/2‖θ−θ₀‖² the hypergradient in θ₀ is λ(H+λI)⁻¹v, H the Hessian of L alone."""
    adaptation = Adaptation(SGD(lr=0.3), steps=400, head="head", proximity=0.5)
    one = problem(adaptation, commentaries=[])
    found = Implicit(ConjugateGradient(steps=80)).hypergradient(one, one.start())
    exact = Unrolled().hypergradient(one, one.start())
    heads = slice(2, 4)  # θ₀ of the head; of the body both know the direct and the mixed term
    assert relative(found.value[heads], exact.value[heads]) < 1e-4
    without = replace(one, adaptation=replace(adaptation, proximity=0.0, steps=5))
    blind = Implicit(ConjugateGradient(steps=80, damping=0.1)).hypergradient(without, without.start())
    assert all(float(g.norm()) == 0 for g in blind.value[heads])


def sampler(**settings):
    return Episodes(examples(**settings), ways=3, shots=3, queries=4, wrong=0.3)


def meta(build=Small, **changes):
    settings = {
        "train": sampler(), "validation": sampler(first=50, seed=9), "adaptation": MAML, "outer_steps": 6, "tasks": 2,
        "validate_every": 2, "validation_tasks": 3, "outer": partial(torch.optim.Adam, lr=0.02), "seed": 4,
    }  # fmt: skip
    return learn_episodes(Student("small", build), **settings | changes)


class FrozenBody(Small):
    def __init__(self):
        super().__init__()
        self.body.requires_grad_(False)
        self.body.weight.fill_(0.5)


def test_what_a_student_froze_is_neither_adapted_nor_learned():
    kept = []
    run = meta(FrozenBody, sink=kept.append, sink_every=3)
    assert torch.equal(run.student.body.weight, torch.full((6, 4), 0.5))
    assert not run.student.body.weight.requires_grad
    first = initialisation_of(run.student)
    assert [name for name, p in first.items() if p.requires_grad] == ["head.weight", "head.bias"]
    one = EpisodeTraining(run.student, first, (), sampler().draw(1), MAML)
    assert [tuple(p.shape) for p in one.adapted().parameters] == [(3, 6), (3,)]
    again = meta(FrozenBody, resume=kept[0])
    assert all(torch.equal(p, q) for p, q in zip(run.student.parameters(), again.student.parameters(), strict=True))
    with pytest.raises(InputError, match="all parameters of the student's 'body' are frozen"):
        meta(FrozenBody, adaptation=replace(MAML, head="body"))


class Checkpointing(Small):
    def forward(self, inputs):
        return checkpoint(super().forward, inputs, use_reentrant=False)


class Counting(Small):
    calls = 0.0

    def forward(self, inputs):
        self.calls += 1
        return self.calls * super().forward(inputs)


class Attending(Small):
    def forward(self, inputs):
        deep = torch.tanh(self.body(inputs))[:, None, None]
        return self.head(functional.scaled_dot_product_attention(deep, deep, deep)[:, 0, 0])


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: nn.Linear(5, 3), InputError, r"'small' cannot be trained on inputs \[4\]"),
        (lambda: spectral_norm(nn.Linear(4, 3)), StatefulModule, "buffer 'parametrizations.weight.0._u'"),
        (Counting, StatefulModule, "state outside"),
        (Checkpointing, NotDifferentiable, "gradient checkpointing"),
    ],
)
def test_a_student_is_tried_before_anything_runs(build, error, match):
    seen = []
    with pytest.raises(error, match=match):
        meta(build, progress=seen.append)
    assert not seen


@pytest.mark.parametrize("memory", ["full", "stored"])
def test_a_student_that_runs_again_on_the_way_back_is_refused(memory):
    one = replace(problem(MAML), student=Checkpointing().double())
    with pytest.raises(NotDifferentiable, match=r"Checkpointing cannot be taught.*gradient checkpointing"):
        Unrolled(memory=memory).hypergradient(one, one.start())


@pytest.mark.parametrize(
    "build", [lambda: Small().double(), lambda: Small().bfloat16(), Attending], ids=["double", "bfloat16", "attention"]
)
def test_students_of_any_precision_and_with_attention_learn_from_episodes(build):
    run = meta(build, commentary=support_weights(), outer_steps=2)
    assert run.accuracies(sampler(first=100, seed=30), range(2)).isfinite().all()
    assert {p.dtype for p in run.student.parameters()} == {p.dtype for p in build().parameters()}


def test_a_validation_that_is_never_finite_is_an_error_with_advice():
    data = examples(first=50, seed=9)
    broken = Episodes(replace(data, inputs=data.inputs * torch.nan), ways=3, shots=3, queries=4)
    with pytest.raises(Diverged, match="validation loss was never finite: lower the inner learning rate"):
        meta(validation=broken)


def twice_cross_entropy(outputs, targets):
    return 2 * cross_entropy(outputs, targets)


class Wider(Small):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 7), nn.Linear(7, 3)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"adaptation": replace(MAML, criterion=twice_cross_entropy)}, "criterion"),
        ({"adaptation": replace(MAML, reduction="sum")}, "reduction"),
        ({"adaptation": replace(MAML, inner=SGD(lr=0.3, schedule=lambda step: 0.5))}, "inner"),
        ({"build": Wider}, "student_parameters"),
        ({"build": FrozenBody}, "student_parameters"),
        ({"commentary": support_weights()}, "commentaries"),
        ({"validation_tasks": 4}, "validations"),
    ],
)
def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(changes, name):
    kept = []
    meta(sink=kept.append)
    with pytest.raises(InputError, match=f"of a run with {name}.* = "):
        meta(resume=kept[-1], **changes)


def test_meta_learning_helps_new_classes():
    new = sampler(first=100, seed=30)
    before = meta(outer_steps=1, outer=partial(torch.optim.SGD, lr=1e-9))
    after = meta(outer_steps=40, commentary=support_weights(), tasks=3)
    seeds = range(25)
    assert after.accuracies(new, seeds).mean() > before.accuracies(new, seeds).mean() + 0.1
    assert after.learned.recipe.outer_steps == 40
    assert after.learned.commentary.kind == "support_weights"
    assert not torch.equal(after.accuracies(new, seeds), after.accuracies(new, seeds, commentary=()))


def test_the_best_step_by_validation_is_returned():
    wild = {"outer": partial(torch.optim.Adam, lr=0.5), "validate_every": 1}
    run = meta(outer_steps=10, **wild)
    losses = [line["validation_loss"] for line in run.learned.history]
    best = losses.index(min(losses))
    assert best < 9
    shorter = meta(outer_steps=best + 1, **wild)  # ends where the longer run was best
    assert all(torch.equal(p, q) for p, q in zip(run.student.parameters(), shorter.student.parameters(), strict=True))


def test_a_resumed_run_ends_bit_identically():
    whole_commentary = support_weights()
    whole = meta(commentary=whole_commentary)
    kept = []

    def stop(report):
        if report.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="outer step 4 of 6"):
        meta(commentary=support_weights(), progress=stop, sink=kept.append, sink_every=3)
    resumed_commentary = support_weights()
    resumed = meta(commentary=resumed_commentary, resume=kept[-1])
    for one, other in ((whole.student, resumed.student), (whole_commentary, resumed_commentary)):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert whole.learned.history == resumed.learned.history
    with pytest.raises(InputError, match="seed = 4, this one has 5"):
        meta(commentary=support_weights(), resume=kept[-1], seed=5)


def test_commentaries_alone_learn_over_students_that_start_anew():
    run = meta(commentary=support_weights(), learn_initialisation=False, outer_steps=2)
    torch.manual_seed(0)
    assert all(not p.requires_grad or p.is_leaf for p in run.student.parameters())
    assert run.learned.cost.inner_steps == 2 * 2 * 2


def test_a_stored_commentary_acts_as_it_is_while_an_initialisation_is_learned():
    frozen = support_weights().requires_grad_(False)
    before = [p.clone() for p in frozen.parameters()]
    with_it, without = meta(commentary=frozen), meta()
    assert all(torch.equal(p, q) for p, q in zip(before, frozen.parameters(), strict=True))
    pairs = zip(with_it.student.parameters(), without.student.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs)
    with pytest.raises(InputError, match="asks for gradients"):
        meta(commentary=frozen, learn_initialisation=False)


def test_a_convolutional_student_keeps_no_state():
    student = Conv4(1, 3, width=4)
    assert not list(student.buffers())
    pictures = torch.randn(6, 1, 28, 28)
    assert torch.equal(student.train()(pictures), student.eval()(pictures))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"ways": 1}, "at least 2 ways"),
        ({"shots": 0}, "1 shot"),
        ({"wrong": 1.5}, "wrong is a share"),
        ({"ways": 9}, "8 classes have the 16 examples|9-way"),
        ({"ways": 3, "queries": 20}, r"0 classes have the 21 examples"),
    ],
)
def test_impossible_episodes_are_named(settings, match):
    with pytest.raises(InputError, match=match):
        Episodes(examples(), **{"ways": 3, "shots": 1, "queries": 2} | settings)


def test_targets_for_each_token_make_no_episodes():
    data = examples()
    tokens = Examples.of(data.inputs, data.targets[:, None].expand(-1, 2), keys=data.keys)
    with pytest.raises(InputError, match=r"targets are \[72, 2\]"):
        Episodes(tokens, ways=3)


def test_shared_classes_are_refused():
    with pytest.raises(SplitError, match="train and test share 8 classes"):
        check_new_classes(train=sampler(), test=sampler(seed=5))
    with pytest.raises(SplitError, match="share 72 examples"):
        check_new_classes(train=sampler(), test=sampler(first=50))
    with pytest.raises(SplitError, match="train and validation share"):
        meta(validation=sampler(seed=5))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"outer_steps": 0}, "outer_steps is 0"),
        ({"train": ()}, "no training episodes"),
        ({"adaptation": replace(MAML, head="tail")}, "'tail', but no parameter's name begins with it"),
        ({"commentary": table()}, "a row per example"),
        ({"learn_initialisation": False}, "nothing to learn"),
        ({"method": Implicit()}, "proximity"),
        ({"method": Implicit(), "adaptation": replace(MAML, proximity=1.0, steps=1)}, "last 1 of 1 steps"),
        ({"method": Implicit(batches=2), "adaptation": replace(MAML, proximity=1.0, steps=2)}, "last 2 of 2 steps"),
        ({"method": Unrolled(truncate=1), "adaptation": replace(MAML, steps=2)}, "truncate is 1 of 2 steps"),
        ({"validation": Episodes(examples(first=50, seed=9), ways=4, shots=1, queries=2)}, "have 3 ways"),
    ],
)
def test_mistakes_are_named_before_anything_runs(changes, match):
    with pytest.raises(InputError, match=match):
        meta(**changes)


def test_adaptation_wants_steps():
    with pytest.raises(InputError, match="at least 1 step"):
        Adaptation(SGD(0.1), steps=0)
    with pytest.raises(InputError, match="proximity"):
        Adaptation(SGD(0.1), steps=1, proximity=-1)
