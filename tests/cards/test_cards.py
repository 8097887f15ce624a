"""The reference commentaries: whole, small, with recipe, evidence and pictures, ready to use from a clone."""

from pathlib import Path

import pytest

from commentary_hub import artefact
from commentary_hub.manifest import EVIDENCE_NAME, MANIFEST_NAME, RECIPE_NAME, split_card, verify_folder
from commentary_hub.recipes import Recipe, recipe_of

CARDS = sorted(path.parent for path in (Path(__file__).parents[2] / "cards").glob(f"*/{MANIFEST_NAME}"))


@pytest.fixture(params=CARDS, ids=lambda path: path.name)
def card(request):
    return request.param


def test_there_are_cards():
    assert len(CARDS) >= 1


def test_a_card_is_whole_and_small(card):
    manifest = verify_folder(card)
    assert manifest.name == card.name
    files = [path for path in card.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert all(path.stat().st_size <= 200_000 for path in files if path.suffix == ".png")
    assert any(path.suffix == ".png" for path in files)


def test_a_card_carries_evidence_of_its_own_tensors_and_the_recipe_that_made_it(card):
    stored = artefact.load(card)
    assert stored.evidence is not None
    assert stored.evidence.tensor_digest == stored.tensor_digest
    script = stored.evidence.protocol.parameters.get("experiment")
    if script is not None:  # what no recipe can say: the experiment made it, by the plan in its evidence
        assert (card.parents[1] / script / "experiment.py").is_file()
        assert stored.evidence.protocol.parameters["plan"]
        return
    recipe = recipe_of(stored)
    assert isinstance(recipe, Recipe)
    assert recipe.commentary.name == stored.manifest.name
    assert recipe.commentary.kind == stored.manifest.kind
    assert {RECIPE_NAME, EVIDENCE_NAME} <= {path.name for path in card.iterdir()}


def test_a_card_says_on_its_first_line_where_it_did_not_help(card):
    evidence = artefact.load(card).evidence
    _, body = split_card((card / "README.md").read_text())
    first = body.strip().splitlines()[0]
    words = {"helps": "", "no_difference": ": makes no difference", "hurts": ": hurts"}
    assert first == f"# {card.name}{words[evidence.outcome]}"


def test_a_verification_on_a_card_is_of_these_tensors(card):
    stored = artefact.load(card)
    assert all(one.tensor_digest == stored.tensor_digest for one in stored.evidence.verifications)
