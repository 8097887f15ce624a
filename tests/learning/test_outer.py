"""The outer loop: populations, what is kept of a run, how it ends, and that an end is never the end."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from commentary_hub.artefact import load
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.errors import Diverged, InputError, Interrupted, OutOfMemory
from commentary_hub.learning import (
    SGD,
    EarlyStop,
    Implicit,
    Neumann,
    Population,
    Student,
    Unrolled,
    combine,
    tensorboard,
)
from commentary_hub.recipes import save
from tests.learning.runs import LINEAR, MLP, NORMED, numbers, run, same
from tests.problems import CLASSES, TinyMask, blobs, table


def test_wrong_labels_lose_weight():
    data = blobs(wrong=0.4)
    learned = run(data=data, outer_steps=60, inner_steps=20)
    weights = learned.commentary.values()[:, 0]
    pairs = weights[~data.mistaken][:, None] > weights[data.mistaken][None]
    assert pairs.double().mean() > 0.85  # the AUROC
    assert learned.history[-1]["outer_loss"] < 0.8 * learned.history[0]["outer_loss"]


def test_the_outer_step_is_the_mean_over_the_population():
    class Known:
        name = "known"

        def hypergradient(self, problem, state, *, warm=None):
            found = Unrolled().hypergradient(problem, state)
            size = 1.0 if isinstance(problem.student, nn.Linear) else 3.0
            return replace(found, value=tuple(torch.full_like(g, size) for g in found.value))

    outer = lambda parameters: torch.optim.SGD(parameters, lr=1.0)
    both = run([MLP, LINEAR], method=Known(), population=Population(size=2), outer_steps=1, outer=outer)
    assert torch.equal(both.commentary.logits, torch.full_like(both.commentary.logits, -2.0))
    assert both.cost.inner_steps == 16


def test_students_live_for_fresh_every_steps_and_architectures_take_turns():
    built, seen = [], []

    class Watched(nn.Linear):
        def __init__(self, kind):
            super().__init__(6, CLASSES)
            self.kind, self.first = kind, self.weight.detach().clone()
            built.append(kind)

    def watching(commentary, progress):
        seen.append(round(float(progress), 3))

    data = blobs()
    one = ExampleWeights(rows=len(data.train))
    one.register_forward_pre_hook(lambda module, args: watching(module, args[1]))
    students = [Student(kind, lambda kind=kind: Watched(kind)) for kind in ("a", "b")]
    run(
        students, data=data, commentary=one, inner_steps=2, outer_steps=6, method=Unrolled(memory="full"),
        population=Population(size=1, fresh_every=3, warm_up=2),
    )  # fmt: skip
    assert built[2:] == ["a", "b"]  # after one trial of each, generations in turn
    ages = [round(step / 8, 3) for step in range(8)]  # warm-up of 2, then 3 outer steps of 2
    assert seen[-16:] == ages * 2


def test_ages_are_staggered_from_the_second_life_on():
    population = Population(size=3, fresh_every=3)
    changes = []

    class Counted(nn.Linear):
        def __init__(self):
            super().__init__(6, CLASSES)
            changes.append(len(reports))

    reports = []
    run(Student("counted", Counted), population=population, outer_steps=9, inner_steps=1, progress=reports.append)
    assert changes[1:4] == [0, 0, 0]  # all begin at once
    assert sorted(changes[4:]) == sorted([3, 6, 2, 5, 8, 1, 4, 7])  # then one after the other


def test_the_kept_commentary_is_the_mean_of_the_last_steps_with_their_variance():
    seen = []
    data = blobs()
    one = ExampleWeights(rows=len(data.train))
    learned = run(
        data=data, commentary=one, outer_steps=8, average_last=0.5,
        progress=lambda report: seen.append(one.logits.detach().clone()),
    )  # fmt: skip
    last = torch.stack(seen[4:])
    assert torch.allclose(learned.commentary.logits, last.mean(0), atol=1e-6)
    weights = torch.sigmoid(last.double())
    assert torch.allclose(learned.statistics["mean"].double(), weights.mean(0), atol=1e-6)
    assert torch.allclose(learned.statistics["variance"].double(), weights.var(0, correction=0), atol=1e-6)
    assert learned.statistics["variance"].max() > 1e-5


def test_tables_that_were_learned_together_keep_and_store_their_own_statistics(tmp_path):
    data = blobs()
    tables = [table(len(data.train), seed=1), table(len(data.train), stages=2, seed=2)]
    learned = run(data=data, commentary=[*tables, TinyMask(6)], average_last=0)
    for at, one in enumerate(tables):
        found = learned.statistics_of(one)
        assert torch.allclose(found["mean"], one.values(), atol=1e-6)
        assert found["variance"].shape == one.logits.shape
        save(tmp_path / str(at), learned, name=f"table-{at}", commentary=one)
        stored = load(tmp_path / str(at))
        assert torch.allclose(stored.statistics["mean"], stored.commentary.values(), atol=1e-5)
    assert torch.equal(learned.statistics["mean"], learned.statistics_of(tables[0])["mean"])
    assert learned.statistics_of(learned.commentaries[-1]) == {}
    with pytest.raises(InputError, match="'example_weights' is none of those that were learned"):
        save(tmp_path / "other", learned, name="other", commentary=copy.deepcopy(tables[0]))


def test_runs_combine_to_mean_and_variance_over_seeds_and_architectures():
    data = blobs()
    runs = [run(student, data=data, seed=seed) for student in (MLP, LINEAR) for seed in (0, 1)]
    values = torch.stack([one.commentary.values() for one in runs]).double()
    found = combine(runs)
    assert torch.allclose(found.statistics["mean"].double(), values.mean(0), atol=1e-6)
    assert torch.allclose(found.statistics["variance"].double(), values.var(0), atol=1e-6)
    assert torch.allclose(found.commentary.values().double(), values.mean(0), atol=1e-6)
    assert found.recipe.students == ("mlp", "linear")
    assert found.recipe.seeds == (0, 1, 0, 1)
    assert found.cost.inner_steps == 4 * runs[0].cost.inner_steps
    assert [line["run"] for line in found.history] == [float(n) for n in range(4) for _ in range(6)]
    assert combine(runs[:1]) is runs[0]


def test_of_networks_the_best_run_is_kept():
    data = blobs()
    runs = [run(data=data, commentary=TinyMask(6), seed=seed) for seed in range(3)]
    losses = [one.history[-1]["outer_loss"] for one in runs]
    best = runs[losses.index(min(losses))]
    assert same(combine(runs).commentary.state_dict(), best.commentary.state_dict())
    with pytest.raises(InputError, match="other kinds"):
        combine([runs[0], run(data=data)])


def test_a_run_that_no_longer_improves_stops_early():
    outer = lambda parameters: torch.optim.SGD(parameters, lr=1e-9)  # nothing can improve but by chance
    learned = run(outer_steps=50, outer=outer, early_stop=EarlyStop(patience=3, least=0.5))
    assert len(learned.history) == learned.recipe.outer_steps == 7
    with pytest.raises(InputError, match="patience"):
        EarlyStop(patience=0)


PLATEAU = lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5, threshold=0.5)


def test_a_plateau_lowers_the_rate():
    made = []

    def outer(parameters):
        made.append(torch.optim.SGD(parameters, lr=1.0))
        return made[-1]

    learned = run(outer=outer, outer_schedule=PLATEAU, outer_steps=6)
    assert made[0].param_groups[0]["lr"] < 1.0
    assert learned.recipe.outer_optimiser == "sgd(lr=1)"  # as it began: what a schedule left of it describes no run


class Failing:
    """A method that does something else from its third call on."""

    name = "failing"

    def __init__(self, fail):
        self.calls, self.fail, self.method = 0, fail, Unrolled()

    def hypergradient(self, problem, state, *, warm=None):
        self.calls += 1
        if self.calls > 2:
            self.fail()
        return self.method.hypergradient(problem, state)


def out_of_memory():
    torch.empty(2**50)


def interrupted():
    raise KeyboardInterrupt


def diverged():
    raise Diverged("the outer loss is nan: lower the inner learning rate")


@pytest.mark.parametrize(
    ("fail", "error", "words"),
    [
        (out_of_memory, OutOfMemory, "out of memory after outer step 2 of 6; step 2 is kept.*to go on.*takes less"),
        (interrupted, Interrupted, "interrupted after outer step 2 of 6; step 2 is kept.*resume="),
        (diverged, Diverged, "lower the inner learning rate; stopped after outer step 2 of 6; step 2 is kept"),
    ],
)
def test_whatever_ends_a_run_its_last_good_state_is_kept_and_goes_on(fail, error, words):
    kept = []
    method = Failing(fail)
    with pytest.raises(error, match=words) as caught:
        run(method=method, sink=kept.append)
    assert caught.value.step == kept[-1].step == 2
    method.calls = -100
    assert same(numbers(run(method=method, resume=kept[-1])), numbers(run()))
    method.calls = 0
    with pytest.raises(error, match="nothing was kept"):
        run(method=method)


def test_a_student_that_explodes_is_an_error_with_advice_and_not_nan():
    with pytest.raises(Diverged, match="lower the inner learning rate"):
        run(
            inner=SGD(lr=1e30),
            inner_steps=30,
            students=Student("deep", lambda: nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 3))),
        )


def test_an_interrupt_while_reporting_loses_nothing():
    kept = []

    def stop(report):
        if report.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="step 4 is kept"):
        run(sink=kept.append, progress=stop)
    assert same(numbers(run(resume=kept[-1])), numbers(run()))


def test_progress_is_told_to_everyone(capsys):
    written, seen = [], []

    class Writer:
        def add_scalar(self, name, value, step):
            written.append((name, step, value))

    learned = run(progress=(True, seen.append, tensorboard(Writer())), method=Implicit(Neumann(2, 0.05)))
    assert [report.step for report in seen] == [1, 2, 3, 4, 5, 6]
    names = {"commentary/outer_loss", "commentary/hypergradient_norm", "commentary/residual"}
    assert {name for name, _, _ in written} == names
    assert len(written) == 18
    assert [v for n, _, v in written if n == "commentary/outer_loss"] == [h["outer_loss"] for h in learned.history]
    assert all(math.isfinite(value) for _, _, value in written)
    assert "6/6" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_commentary_and_another_another():
    assert same(numbers(run()), numbers(run()))
    assert not same(numbers(run()), numbers(run(seed=4)))


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(NORMED, population=Population(size=2, warm_up=2))
    assert torch.equal(torch.rand(3), expected)
