"""``evaluate`` and ``verify`` on a recipe so small that it measures nothing, from learning to the record."""

import json
import os

import pytest
from typer.testing import CliRunner

from commentary_hub import artefact, hub, recipes
from commentary_hub.cli._main import build_app
from commentary_hub.errors import EvidenceError, RecipeError, ReferenceSyntaxError, UsageError
from commentary_hub.evidence import _compare
from commentary_hub.manifest import EVIDENCE_NAME, Evidence

RECIPE = """
[commentary]
name = "tiny"
kind = "example_weights"
[data]
dataset = "sklearn:digits"
train = 80
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
learning_rate = 0.3
steps = 2
[evaluation]
steps = 5
batch_size = 16
learning_rates = [0.1]
seeds = 2
competitors = false
[[evaluation.students]]
name = "mlp"
settings = { inputs = 64, hidden = [4], classes = 10 }
"""


def run(*arguments):
    return CliRunner().invoke(build_app(), [str(one) for one in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "tiny"
    recipes.run(recipes.Recipe.from_toml(RECIPE), folder, recipe_toml=RECIPE)
    return folder


@pytest.fixture
def folder(learned, tmp_path):
    """A fresh copy of the artefact."""
    place = tmp_path / "tiny"
    place.mkdir()
    for path in learned.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


@pytest.fixture
def evaluated(folder):
    assert run("evaluate", folder).exit_code == 0
    return folder


def evidence_of(folder):
    return Evidence.from_json((folder / EVIDENCE_NAME).read_bytes())


def test_evaluate_attaches_a_certificate_and_says_what_it_found(folder):
    done = run("evaluate", folder, "--seeds", 3, "--learning-runs", 2)
    found = evidence_of(folder)
    assert found.summary in done.output
    assert f"commentary-hub push {folder}" in done.output
    assert (found.protocol.seeds, found.protocol.learning_runs, found.protocol.splits) == (3, 2, 2)
    assert {one.control for one in found.measurements} == {
        "commentary", "none", "clean_only", "equal_data", "shuffled", "random",
    }  # fmt: skip
    assert all(one.runs == 6 and one.curve_area_mean is not None for one in found.measurements)
    assert len(found.verdicts) == 5
    assert "weights_auroc" in found.detection
    assert found.break_even.learning_seconds > 0
    assert found.versions["torch"]
    assert found.cost_seconds > 0
    assert artefact.load(folder).evidence == found
    assert "Does it help?" in (folder / "README.md").read_text()


def test_evaluate_answers_programs_in_json(folder):
    answer = json.loads(run("evaluate", folder, "--json").output)
    assert Evidence.model_validate(answer["evidence"]) == evidence_of(folder)


def test_an_interrupted_evaluation_goes_on_where_it_was(folder, monkeypatch):
    calls, train = [], _compare.train

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise SystemError("killed")
        return train(*arguments, **options)

    monkeypatch.setattr(_compare, "train", counted)
    with pytest.raises(SystemError, match="killed"):
        run("evaluate", folder)
    assert not (folder / EVIDENCE_NAME).exists()
    assert run("evaluate", folder).exit_code == 0
    assert len(calls) == 6 + 2 * (6 - 2)  # tuning and measuring of the four arms that were not finished


def test_other_students_must_be_known_to_the_recipe(folder):
    with pytest.raises(RecipeError, match="knows no student cnn"):
        run("evaluate", folder, "--students", "cnn")


def test_an_artefact_without_a_recipe_needs_one_that_says_the_splits(tmp_path, folder):
    recipes.run(recipes.Recipe.from_toml(RECIPE), tmp_path / "bare")
    with pytest.raises(RecipeError, match=r"carries no recipe\.toml"):
        run("evaluate", tmp_path / "bare")
    (tmp_path / "mine.toml").write_text(RECIPE)
    assert run("evaluate", tmp_path / "bare", "--recipe", tmp_path / "mine.toml").exit_code == 0


def test_what_comes_from_a_hub_needs_a_folder_for_the_evidence(folder, tmp_path):
    with pytest.raises(UsageError, match="--out"):
        run("evaluate", "ada/tiny")
    with pytest.raises(UsageError, match="leave out --out"):
        run("verify", folder, "--out", tmp_path / "x")


@pytest.mark.parametrize("command", ["evaluate", "verify"])
def test_what_is_neither_a_folder_nor_a_name_on_a_hub_is_no_reference(command):
    with pytest.raises(ReferenceSyntaxError, match="'nothere' is not a reference"):
        run(command, "nothere")


def test_verify_runs_the_evaluation_again_and_attaches_a_record(evaluated, monkeypatch):
    done = run("verify", evaluated, "--account", "grace")
    assert done.exit_code == 0
    assert "agrees: 6 of 6 arms" in done.output
    (record,) = evidence_of(evaluated).verifications
    assert (record.account, record.agrees) == ("grace", True)
    assert record.tensor_digest == evidence_of(evaluated).tensor_digest
    assert record.hardware
    assert record.date
    trained = []
    train = _compare.train
    monkeypatch.setattr(_compare, "train", lambda *one, **options: trained.append(1) or train(*one, **options))
    again = json.loads(run("verify", evaluated, "--account", "alan", "--json").output)
    assert len(trained) == 12  # nothing is taken from the verification before: six arms are tuned and measured
    assert not list(evaluated.glob(".*"))
    assert again["verification"]["account"] == "alan"
    assert [one.account for one in evidence_of(evaluated).verifications] == ["grace", "alan"]


@pytest.mark.parametrize("command", ["evaluate", "verify"])
def test_what_is_finished_lies_in_the_cache_and_never_beside_a_strangers_artefact(evaluated, monkeypatch, command):
    """Runs that came with a folder would be its author's word for what was measured here."""
    seen = []

    def stopped(*_, keep, **__):
        seen.append(keep)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, command, stopped)
    for _ in range(2):
        run(command, evaluated)
    assert seen[0] == seen[1]  # the same command goes on
    assert seen[0].is_relative_to(os.environ["COMMENTARY_HUB_CACHE"])
    assert not seen[0].is_relative_to(evaluated)


def test_verify_names_the_account_that_is_signed_in(evaluated, monkeypatch):
    monkeypatch.setattr(hub, "account", lambda: "ada")
    run("verify", evaluated)
    assert evidence_of(evaluated).verifications[0].account == "ada"


def test_verify_records_that_it_does_not_agree_and_fails(evaluated):
    found = evidence_of(evaluated)
    parameters = json.loads(json.dumps(found.protocol.parameters))
    for result in parameters["trials"][0]["results"]:
        result["accuracy_ci95"] = [0.99, 1.0]
    protocol = found.protocol.model_copy(update={"parameters": parameters})
    artefact.attach(evaluated, evidence=found.model_copy(update={"protocol": protocol}))
    with pytest.raises(EvidenceError, match="does not hold here"):
        run("verify", evaluated, "--account", "grace")
    assert [one.agrees for one in evidence_of(evaluated).verifications] == [False]


def test_there_is_nothing_to_verify_without_evidence(folder):
    with pytest.raises(EvidenceError, match="carries no evidence"):
        run("verify", folder, "--account", "grace")
