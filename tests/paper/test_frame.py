"""The frame of the paper's experiments: plans are fixed before, runs go on where they stopped, results say what ran."""

import json
import multiprocessing
import os
import signal
import sys
import time
import types
from functools import partial
from pathlib import Path

import pytest

from benchmarks.paper import run as script
from benchmarks.paper.at_once import do_at_once
from benchmarks.paper.plan import Plan
from benchmarks.paper.section import Section, comparison, decided
from benchmarks.paper.work import Work
from commentary_hub import artefact, recipes
from commentary_hub.errors import RecipeError
from commentary_hub.manifest import Evidence

PLANS = sorted(Path(script.__file__).parent.glob("*/*.toml"))
RECIPE = """
[commentary]
name = "tiny"
kind = "example_weights"
[data]
dataset = "sklearn:digits"
train = 60
validation = 20
selection = 40
test = 60
[data.corruption]
noise = "pairwise"
share = 0.5
[[students]]
name = "mlp"
settings = { inputs = 64, hidden = [4], classes = 10 }
[method]
name = "unrolled"
[inner]
learning_rate = 0.1
steps = 2
batch_size = 16
[outer]
learning_rate = 0.1
steps = 2
[evaluation]
steps = 4
batch_size = 16
learning_rates = [0.1]
seeds = 2
learning_runs = 2
competitors = false
[[evaluation.students]]
name = "mlp"
settings = { inputs = 64, hidden = [4], classes = 10 }
"""
PLAN = """
title = "A tiny experiment"
question = "Does the frame hold?"
criterion = "it does"
hours = 0.01
[settings]
student = "mlp"
[[case]]
name = "tiny"
recipe = "tiny.toml"
set = { "data.corruption.share" = 0.25 }
each = { seed = [0, 1] }
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An experiment of two cases in a folder of its own; returns how often each thing was learned or kept."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.toml").write_text(RECIPE)
    (tmp_path / "tiny" / "cpu.toml").write_text(PLAN)
    (tmp_path / "tiny" / "full.toml").write_text(PLAN)
    called = []

    def experiment(work):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1])
        evidence = next(iter([work.evaluated(case).evidence for case in work.plan.cases]))
        slow = work.kept("slow", {"of": 1}, lambda: called.append("kept") or {"value": 7})
        assert slow == {"value": 7}
        work.figure("line", figure, "A line.")
        outcome, verdict = decided(evidence, work.plan.settings["student"], ["none"])
        return work.section(outcome=outcome, verdict=verdict, tables=[comparison("tiny", evidence)], notes=["A note."])

    module = types.ModuleType("experiment")
    module.run = experiment
    monkeypatch.setitem(sys.modules, "benchmarks.paper.tiny.experiment", module)
    monkeypatch.setattr(script, "EXPERIMENTS", ("tiny", "later"))
    monkeypatch.setattr(script, "HERE", tmp_path)
    monkeypatch.setenv("COMMENTARY_HUB_DATASETS", "")
    return called


@pytest.mark.parametrize(
    "path", [one for one in PLANS if one.stem in {"cpu", "full"}], ids=lambda path: path.parent.name
)
def test_every_plan_can_be_read_with_all_its_recipes(path):
    plan = Plan.read(path)
    assert plan.question.endswith("?")
    assert plan.criterion
    assert plan.hours > 0
    assert len({case.toml for case in plan.cases}) == len(plan.cases) == len({case.name for case in plan.cases})


def test_cases_are_recipes_with_the_plans_changes(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "cpu.toml").write_text(PLAN)
    cases = Plan.read(tmp_path / "cpu.toml").cases
    assert [(case.name, case.recipe.seed) for case in cases] == [("tiny, seed 0", 0), ("tiny, seed 1", 1)]
    assert all(case.recipe.data.corruption.share == 0.25 for case in cases)
    (tmp_path / "cpu.toml").write_text(PLAN.replace("data.corruption.share", "data.corruption.shares"))
    with pytest.raises(RecipeError, match=r"corruption\.shares"):
        Plan.read(tmp_path / "cpu.toml")


def test_an_experiment_runs_once_and_is_reported(tiny, tmp_path, capfd):
    command = ["--only", "tiny", "--work", str(tmp_path / "work"), "--results", str(tmp_path), "--device", "cpu"]
    assert script.main(command) == 0
    first = Section.read(tmp_path / "results" / "cpu" / "tiny.json")
    assert ": learning\n" in capfd.readouterr().out
    assert script.main(command) == 0
    assert ": learning\n" not in capfd.readouterr().out
    assert tiny == ["kept"]
    again = Section.read(tmp_path / "results" / "cpu" / "tiny.json")
    assert again.tables == first.tables
    assert again.seconds[0] > first.seconds[0] > 0
    report = (tmp_path / "RESULTS.md").read_text()
    assert first.tables[0].markdown() in report
    assert "results/cpu/tiny-line.png" in report
    assert (tmp_path / "results" / "cpu" / "tiny-line.png").stat().st_size > 0
    assert "| 1. A tiny experiment |" in report
    assert "not run; about 0.01 h" in report
    assert "| 2. later | no plan yet | no plan yet |" in report


def test_a_stopped_run_says_that_it_can_go_on(tiny, tmp_path, monkeypatch, capsys):
    def stopped(work):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["benchmarks.paper.tiny.experiment"], "run", stopped)
    assert script.main(["--only", "tiny", "--work", str(tmp_path / "work"), "--results", str(tmp_path)]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not (tmp_path / "RESULTS.md").exists()


def test_jobs_at_once_are_all_done_each_in_a_process_of_its_own_and_a_failing_one_stops_no_other(tmp_path, capfd):
    def job(number):
        if number == 1:
            raise ValueError("job 1 fails")
        (tmp_path / str(number)).write_text(str(os.getpid()))

    do_at_once([partial(job, number) for number in range(5)], workers=2)
    pids = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert len(pids) == 4
    assert os.getpid() not in pids
    assert "job 1 fails" in capfd.readouterr().err


def test_an_interrupt_ends_the_jobs_too(tmp_path):
    def job():
        (tmp_path / "began").touch()
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
        (tmp_path / "ended").touch()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        do_at_once([job, job], workers=1)
    assert time.monotonic() - began < 30
    assert (tmp_path / "began").exists()
    assert not (tmp_path / "ended").exists()
    assert multiprocessing.active_children() == []


def test_trials_measured_at_once_are_those_of_an_evaluation_measured_alone(tiny, tmp_path):
    case = Plan.read(tmp_path / "tiny" / "cpu.toml").cases[0]
    alone = recipes.run(case.recipe, tmp_path / "alone") and artefact.load(tmp_path / "alone")
    expected = Evidence.from_json(recipes.evaluate(alone, case.recipe).to_json())
    places = {"root": tmp_path / "work", "results": tmp_path / "results", "device": "cpu"}
    found = Work("tiny", "cpu", Plan.read(tmp_path / "tiny" / "cpu.toml"), **places).evaluated(case).evidence
    assert found.measurements == expected.measurements
    assert found.protocol == expected.protocol
    assert found.cost_seconds > 0


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="jobs run one by one here")
def test_the_clock_counts_what_jobs_at_once_took_of_the_processor(tiny, tmp_path):
    work = Work("tiny", "cpu", Plan.read(tmp_path / "tiny" / "cpu.toml"), root=tmp_path / "work",
                results=tmp_path / "results", device="cpu")  # fmt: skip

    def job():
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
        work.say("a line of a job, whose own clock is none")

    work.at_once([job, job])
    wall, processor = json.loads((tmp_path / "work" / "cpu" / "tiny" / "clock.json").read_text())
    assert processor >= 0.6
    assert wall >= 0.3
