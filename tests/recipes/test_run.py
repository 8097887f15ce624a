"""A recipe from the command line: killed at any moment and run again it ends with the same bits; --check measures."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from commentary_hub import artefact, recipes
from commentary_hub.cli import build_app
from commentary_hub.errors import Interrupted, RecipeError

TEXT = """
runs = 2
[commentary]
name = "digits"
kind = "example_weights"
[data]
dataset = "sklearn:digits"
train = 120
validation = 60
corruption = { noise = "pairwise", share = 0.4 }
[[students]]
name = "mlp"
settings = { inputs = 64, hidden = [16], classes = 10 }
[[students]]
name = "cnn"
settings = { channels = 1, classes = 10, width = 4 }
[method]
name = "unrolled"
settings = { memory = "checkpoints" }
[inner]
learning_rate = 0.1
settings = { momentum = 0.9, nesterov = true }
schedule = "cosine"
augmentation = "crop_flip"
steps = 6
batch_size = 16
[outer]
optimiser = "NAdam"
learning_rate = 0.3
schedule = "StepLR"
schedule_settings = { step_size = 4 }
steps = 12
[population]
size = 2
fresh_every = 3
warm_up = 2
"""


COSINE = '"cosine"\nschedule_settings = '
CYCLIC = '"CyclicLR"\nschedule_settings = { base_lr = 0.1, max_lr = 0.2, step_size_up = 0 }'
UNROLLED, IMPLICIT = '"unrolled"\nsettings = { memory = "checkpoints" }', '"implicit"\n'
NEUMANN = 'inverse = { name = "neumann", settings = { terms = 3.5 } }'


def command(recipe, folder, *options):
    main = "from commentary_hub.cli import main; main()"
    return [sys.executable, "-c", main, "learn", str(recipe), "--out", str(folder), "--json", *options]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(TEXT)
    return path


def finished(recipe, folder, *options):
    """The command in this process: what it printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # typer's own
        done = CliRunner().invoke(build_app(), ["learn", str(recipe), "--out", str(folder), "--json", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def tensors(folder):
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def kill(recipe, folder, *, when, how=signal.SIGKILL):
    """Start, and kill as soon as ``when`` holds; returns what it said."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it for all
    try:
        process = subprocess.Popen(
            command(recipe, folder, "--every", "1"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)
    until = time.monotonic() + 120
    while process.poll() is None and not when() and time.monotonic() < until:
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()
    while process.poll() is None:
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):  # an interrupt that falls into a finaliser is lost: press again
            return_code, said = process.wait(10), process.communicate()[1].decode()
            return return_code, said
    return process.returncode, process.communicate()[1].decode()


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(recipe, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    recipes.run(recipes.Recipe.read(recipe), whole, recipe_toml=TEXT)
    seen = set()

    def another():
        """A checkpoint that was not there yet."""
        found = set()
        for file in torn.glob("checkpoint*"):
            with suppress(FileNotFoundError):  # its draft, which has its name by now
                found.add((file.name, file.stat().st_mtime_ns))
        fresh = found - seen
        seen.update(found)
        return len(fresh) > 0 and len(seen) > 2

    for _ in range(2):
        code, _ = kill(recipe, torn, when=another)
        assert code == -signal.SIGKILL
    assert not (torn / "commentary.json").exists()
    finished(recipe, torn, "--every", "1")
    one, other = tensors(whole), tensors(torn)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(torn.glob("checkpoint*"))


def test_an_interrupt_in_the_second_run_keeps_the_first(recipe, tmp_path):
    read = recipes.Recipe.read(recipe)
    reports = []

    def stop(report):
        reports.append(report.step)
        if len(reports) == 12 + 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted after outer step 3 of 12; step 3 is kept"):
        recipes.run(read, tmp_path / "torn", recipe_toml=TEXT, progress=stop)
    recipes.run(read, tmp_path / "torn", recipe_toml=TEXT, progress=lambda report: reports.append(report.step))
    assert reports == [*range(1, 13), 1, 2, 3, *range(4, 13)]
    recipes.run(read, tmp_path / "whole", recipe_toml=TEXT)
    one, other = tensors(tmp_path / "whole"), tensors(tmp_path / "torn")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_interrupted_command_says_how_to_go_on(tmp_path):
    (recipe := tmp_path / "recipe.toml").write_text(TEXT.replace("steps = 12", "steps = 2000"))
    code, said = kill(recipe, tmp_path, when=(tmp_path / "checkpoint.safetensors").exists, how=signal.SIGINT)
    assert code == 1
    assert "is kept: run the same again" in " ".join(said.split())
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_runs_over_seeds_and_architectures_leave_mean_and_variance_in_the_artefact(recipe, tmp_path):
    manifest = recipes.run(recipes.Recipe.read(recipe), tmp_path, recipe_toml=TEXT)
    assert manifest.recipe.students == ("mlp", "cnn")
    assert manifest.recipe.seeds == (0, 1000)
    assert manifest.recipe.outer_optimiser.startswith("nadam")
    stored = artefact.load(tmp_path)
    assert torch.allclose(stored.statistics["mean"], stored.commentary.values(), atol=1e-5)
    assert stored.statistics["variance"].shape == stored.commentary.logits.shape
    assert (stored.statistics["variance"] > 0).all()


def test_check_prints_the_error_against_the_exact_hypergradient(recipe, tmp_path):
    exact = json.loads(finished(recipe, tmp_path / "a", "--check"))
    assert 0 < exact["relative_error"] < 1e-3  # float32 against float64
    biased = tmp_path / "implicit.toml"
    biased.write_text(TEXT.replace('"unrolled"\nsettings = { memory = "checkpoints" }', '"implicit"'))
    assert json.loads(finished(biased, tmp_path / "a", "--check"))["relative_error"] > 0.1
    assert not (tmp_path / "a").exists()


def test_scalars_are_written_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "recipe.toml"
    path.write_text(TEXT.replace("runs = 2", "runs = 1"))
    finished(path, tmp_path / "out", "--tensorboard", str(tmp_path / "logs"))
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [event.step for event in events.Scalars("commentary/outer_loss")] == list(range(1, 13))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"NAdam"', '"lbfgs"', "outer.optimiser: 'lbfgs' is none of"),
        ('"StepLR"', '"Steps"', "outer.schedule: 'Steps' is none of constant, cosine"),
        ("step_size = 4", "size = 4", "outer.schedule_settings"),
        ('"StepLR"\nschedule_settings = { step_size = 4 }', CYCLIC, "outer.schedule_settings"),
        ('"StepLR"\nschedule_settings = { step_size = 4 }', COSINE + "{ etamin = 1 }", "unexpected keyword .*etamin"),
        ('"StepLR"\nschedule_settings = { step_size = 4 }', COSINE + "{ T_max = 1 }", "T_max is not set here, but by"),
        ('"NAdam"', '"adam"\nsettings = { betas = [0.9] }', "outer.settings"),
        ('"NAdam"', '"adam"\nsettings = { lr = 0.1 }', "lr is not set here, but by outer.learning_rate"),
        ('memory = "checkpoints"', 'backward_dtype = "half"', "backward_dtype is 'half'"),
        ('memory = "checkpoints"', 'backward_dtype = "float32"', "backward_dtype is 'float32': give \"float64\""),
        ('memory = "checkpoints"', "memory = 1e6", "method.settings: memory is 1000000.0"),
        ('memory = "checkpoints"', "truncate = 2.5", "method.settings: truncate is 2.5"),
        (UNROLLED, IMPLICIT + "settings = { batches = 2.5 }", "method.settings: batches is 2.5"),
        (UNROLLED, IMPLICIT + 'settings = { inverse = "neumann" }', "not set here, but by method.inverse = {"),
        (UNROLLED, IMPLICIT + NEUMANN, "method.inverse.settings: terms is 3.5"),
        (
            "momentum = 0.9, nesterov = true",
            "lr = 0.9",
            "inner.settings: lr is not set here, but by inner.learning_rate",
        ),
        ("momentum = 0.9, nesterov = true", 'schedule = "cosine"', "schedule is not set here, but by inner.schedule"),
        ("momentum = 0.9, nesterov = true }", 'betas = [0.9] }\noptimiser = "adam"', r"betas is \[0.9\]"),
        (
            '"example_weights"',
            '"example_weights"\nparameters = { rows = 3 }',
            "rows is not set here, but by data.train",
        ),
        ("size = 2", "size = 1.5", "population.size"),
        ("steps = 12", "steps = 0", "outer.steps"),
        ("steps = 12", "steps = 12\nearly_stop = { patience = 0 }", "outer.early_stop.patience"),
        ("fresh_every = 3", "fresh_every = 0", "population"),
        ("runs = 2", "runs = 0", "runs"),
    ],
)
def test_what_a_recipe_cannot_mean_is_refused_before_anything_runs(old, new, words, tmp_path):
    assert old in TEXT
    with pytest.raises(RecipeError, match=words):
        recipes.run(recipes.Recipe.from_toml(TEXT.replace(old, new, 1)), tmp_path)
    assert not list(tmp_path.iterdir())
