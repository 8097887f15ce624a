"""Experiment 6, its own parts: controls that keep the numbers, a rate for each part, alphabets as groups of classes."""

import pytest
import torch
from PIL import Image

from benchmarks.paper.few_shot import experiment
from benchmarks.paper.few_shot.certificate import certificate
from commentary_hub import artefact, recipes
from commentary_hub.commentaries import Batch, SupportWeights
from commentary_hub.data import LOCAL_COPIES
from commentary_hub.errors import EvidenceError
from commentary_hub.manifest import DatasetBinding, DatasetIdentity, Evidence, KeyScheme
from commentary_hub.networks import Conv4

datasets = pytest.importorskip("datasets")


def weights():
    torch.manual_seed(0)
    return SupportWeights("mlp", {"inputs": 4, "hidden": [], "classes": 3})


def support():
    torch.manual_seed(2)  # not 1: that is the one permutation in 720 that changes nothing
    return Batch(torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2]))


def test_controls_keep_the_weights_of_the_episode_but_not_their_places():
    batch, ours = support(), weights()
    found = ours(batch, 0.5).weights
    shuffled = experiment.Rearranged(ours, replacement=False)(batch, 0.5).weights
    drawn = experiment.Rearranged(ours, replacement=True)(batch, 0.5).weights
    assert torch.equal(shuffled.sort().values, found.sort().values)
    assert not torch.equal(shuffled, found)
    assert set(drawn.tolist()) <= set(found.tolist())
    again = experiment.Rearranged(ours, replacement=False)(batch, 0.5).weights
    assert torch.equal(shuffled, again)


def test_the_encoder_starts_as_the_students_features():
    student = Conv4(1, 5, width=6)
    settings = {"student": {"name": "conv4", "settings": {"channels": 1, "width": 6}}}
    found = experiment._weights(student, settings, 0)
    pictures = torch.rand(4, 1, 28, 28)
    assert torch.allclose(found.encoder(pictures), student.features(pictures), atol=1e-6)


def test_each_part_learns_at_its_own_rate():
    ours, student = weights(), Conv4(1, 5, width=4)
    rates = {"student": 0.1, "encoder": 0.2, "score": 0.3}
    parameters = [*ours.parameters(), *student.parameters()]
    groups = experiment._optimiser(rates, ours, parameters).param_groups
    rate_of = {id(group["params"][0]): group["lr"] for group in groups}
    assert {rate_of[id(p)] for p in ours.encoder.parameters()} == {0.2}
    assert {rate_of[id(p)] for p in ours.score.parameters()} == {0.3}
    assert {rate_of[id(p)] for p in student.parameters()} == {0.1}


def test_characters_of_an_alphabet_are_classes_and_shared_alphabets_come_once(tmp_path, monkeypatch):
    folder = tmp_path / "owner" / "letters" / "data"
    folder.mkdir(parents=True)
    shades = iter(range(40))
    picture = lambda: Image.new("L", (20, 20), color=255 - next(shades))
    for part, alphabets in (("small1", ["A", "B"]), ("small2", ["B", "C"])):
        rows = [(picture(), alphabet, f"character{n:02d}") for alphabet in alphabets for n in (1, 2) for _ in range(2)]
        columns = dict(zip(("image", "alphabet", "character"), map(list, zip(*rows, strict=True)), strict=True))
        features = datasets.Features(image=datasets.Image(), alphabet=datasets.Value("string"),
                                     character=datasets.Value("string"))  # fmt: skip
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{part}-00000-of-00001.parquet")
    monkeypatch.setenv(LOCAL_COPIES, str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = experiment.omniglot({"parts": ["small1", "small2"], "dataset": "owner/letters", "size": [8, 8]})
    assert sorted(found) == ["A", "B", "C"]
    assert all(len(one) == 4 for one in found.values())
    both = experiment._of_alphabets(found, ["A", "B", "C"])
    assert both.targets.tolist() == [0, 0, 1, 1, 100, 100, 101, 101, 200, 200, 201, 201]
    assert float(both.inputs.max()) < 0.2  # paper is 0, ink is 1
    assert tuple(both.inputs.shape) == (12, 1, 8, 8)


PLAN = {"student": {"name": "conv4"}, "ways": 3, "shots": 2, "episodes": 2, "inner_rate": 0.4, "inner_steps": 2,
        "measured": [0.0, 0.4], "decides": 0.4, "against": ["none", "random"]}  # fmt: skip
ARMS = {"none": "no weights", "random": "redrawn", "reused": "not decided on"}


def stored_weights(folder):
    key = KeyScheme(form="none", salted=False)
    dataset = DatasetBinding(identity=DatasetIdentity(id="owner/letters"), fingerprint="0" * 64, rows=10,
                             validation_rows=0, key=key)  # fmt: skip
    artefact.save(folder, weights(), name="tiny", dataset=dataset, loss_reduction="mean")
    return artefact.load(folder)


def found(none):
    """Two runs of two episodes: with right labels every arm is alike, with wrong ones ``none`` is what is given."""
    alike = {arm: [0.9, 0.8] for arm in ("commentary", *ARMS)}
    apart = {"commentary": [0.7, 0.6], "none": none, "random": [0.4, 0.3], "reused": [0.9, 0.9]}
    return [{"accuracies": {"0.0": alike, "0.4": apart}, "detected": {"0.4": 0.75}, "seconds": 2.0}] * 2


def test_a_certificate_of_episodes_pairs_them_and_decides_at_the_plans_share_alone(tmp_path):
    stored = stored_weights(tmp_path / "tiny")
    proof = certificate(stored, found([0.5, 0.4]), PLAN, ARMS, criterion="it is better", device="cpu")
    assert Evidence.from_json(proof.to_json()) == proof
    assert (proof.outcome, proof.cost_seconds, proof.tensor_digest) == ("helps", 4.0, stored.tensor_digest)
    assert proof.detection == {"weights_auroc, 40% wrong": 0.75}
    cells = {(one.student, one.control): one for one in proof.measurements}
    none = cells["conv4, 40% of the support labels wrong", "none"]
    assert (none.runs, none.accuracy_mean) == (4, pytest.approx(0.45))
    assert none.difference_ci95 == pytest.approx((0.2, 0.2))
    words = {(one.student[7:10], one.control): one.outcome for one in proof.verdicts}
    assert words["40%", "reused"] == "hurts"  # reported beside it: the plan does not decide by it
    assert words["0% ", "none"] == "no_difference"
    assert "65.0 % of the queries right with it, 45.0 % without" in proof.summary
    hurt = certificate(stored, found([0.8, 0.7]), PLAN, ARMS, criterion="it is better", device="cpu")
    alike = certificate(stored, found([0.7, 0.6]), PLAN, ARMS, criterion="it is better", device="cpu")
    assert (hurt.outcome, alike.outcome) == ("hurts", "no_difference")


def test_verifying_a_certificate_of_episodes_names_the_experiment_that_can(tmp_path):
    proof = certificate(stored_weights(tmp_path / "tiny"), found([0.5, 0.4]), PLAN, ARMS, criterion="", device="cpu")
    artefact.attach(tmp_path / "tiny", evidence=proof, plots={})
    assert "commented_loss(learner(support.inputs), support" in (tmp_path / "tiny" / "README.md").read_text()
    with pytest.raises(EvidenceError, match="measured by benchmarks/paper/few_shot"):
        recipes.verify(artefact.load(tmp_path / "tiny"), account="somebody")
