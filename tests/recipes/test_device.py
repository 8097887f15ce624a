"""Where a run computes: on a device that is there, else one error that says which are."""

import pytest
import torch

from commentary_hub import recipes
from commentary_hub.errors import InputError
from commentary_hub.learning import _device
from commentary_hub.recipes import _run
from tests.cli.test_evaluate import RECIPE

READ = recipes.Recipe.from_toml(RECIPE)


def test_what_is_there_is_found():
    assert recipes.find_device("cpu") == torch.device("cpu")
    assert recipes.find_device(torch.device("cpu:0")).type == "cpu"


@pytest.mark.parametrize("name", ["cuda:7", "meta", "gpu", "cuda:x", ""])
def test_what_is_not_there_is_refused_with_what_is(monkeypatch, name):
    monkeypatch.setattr(_device, "_devices", lambda: [torch.device("cpu"), torch.device("cuda", 0)])
    with pytest.raises(InputError, match=r"there is no device .* here: choose from cpu, cuda:0 \(what torch"):
        recipes.find_device(name)
    assert recipes.find_device("cuda").type == "cuda"
    assert recipes.find_device("cuda:0").index == 0


@pytest.mark.parametrize("call", [
    lambda folder: recipes.run(READ, folder / "a", device="cuda:99"),
    lambda folder: recipes.check(READ, device="cuda:99"),
    lambda folder: recipes.evaluate(None, READ, device="cuda:99"),
    lambda folder: recipes.verify(None, READ, account="ada", device="cuda:99"),
])  # fmt: skip
def test_every_verb_refuses_before_it_opens_anything(tmp_path, monkeypatch, call):
    monkeypatch.setattr(_run, "open_parts", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match="there is no device 'cuda:99'"):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_checked_is_computed_there(monkeypatch):
    """On a device that computes nothing, for want of a second real one: all that the method sees lies there."""
    monkeypatch.setattr(_run, "find_device", torch.device)
    problems = []
    monkeypatch.setattr(_run, "hypergradient_error", lambda method, problem, state: problems.append((problem, state)))
    recipes.check(READ, device="meta")
    ((problem, state),) = problems
    held = [problem.inputs, problem.targets, problem.batches, problem.validation_inputs, problem.validation_targets]
    assert {one.device.type for one in (*held, *problem.commentary, *state.parameters)} == {"meta"}
