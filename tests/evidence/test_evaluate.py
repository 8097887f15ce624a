"""Certificates: verdicts by the stated rule, leakage refused, everything recorded that a second run needs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from commentary_hub.artefact import attach, load
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError, SplitError, TooFewRows, WrongDataset
from commentary_hub.evidence import (
    Comparison,
    NetworkStudent,
    PieceFolder,
    Settings,
    TunedAdam,
    _compare,
    auroc,
    evaluate,
    example_weights,
    verified,
    verify,
)
from commentary_hub.evidence._certificate import outcome_of, packed, unpacked
from commentary_hub.evidence._train import train
from commentary_hub.evidence._verify import disagreements
from commentary_hub.manifest import Evidence, Verdict, Verification
from tests.evidence.problem import MLP, examples, trial

SETTINGS = Settings(
    steps=40, batch_size=32, learning_rates=(0.02, 0.1), seeds=5, tuning_seeds=2, target_accuracy=0.7, points=8
)
QUICK = replace(SETTINGS, competitors=False)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    one = trial(tmp_path_factory.mktemp("good"))
    one = replace(one, filters={"oracle": ~one.mistaken}, scores={"oracle": (~one.mistaken).float()})
    return one, evaluate(one, [MLP], SETTINGS, data={"dataset": "some/blobs"})


def test_a_commentary_that_knows_the_mistakes_helps(good):
    one, evidence = good
    assert evidence.outcome == "helps"
    outcomes = {verdict.control: verdict.outcome for verdict in evidence.verdicts}
    assert {"none", "clean_only", "equal_data", "shuffled", "random"} < outcomes.keys()
    assert {"oracle", "trimming", "label_smoothing"} < outcomes.keys()
    assert all(outcomes[name] == "helps" for name in ("none", "equal_data", "shuffled", "random"))
    assert evidence.tensor_digest == one.stored.tensor_digest
    assert evidence.detection["weights_auroc"] > 0.99
    assert evidence.detection["oracle_auroc"] == 1.0
    assert evidence.summary.startswith("The commentary helps")
    assert "student seeds only" in evidence.summary
    means = {line.control: f"{100 * line.accuracy_mean:.1f} %" for line in evidence.measurements}
    said = f"{means['equal_data']} on the same examples without (equal_data), {means['none']} without the trusted ones"
    assert said in evidence.summary
    assert evidence.protocol.splits == evidence.protocol.learning_runs == 1
    assert evidence.break_even.learning_seconds == 5
    assert evidence.break_even.reuses > 0


def test_the_certificate_survives_json_and_the_artefact(good):
    one, evidence = good
    again = Evidence.from_json(evidence.to_json())
    assert again.measurements == evidence.measurements
    assert len(evidence.to_json()) < 200_000
    recorded = json.loads(evidence.to_json())["protocol"]["parameters"]
    assert Settings.from_json(recorded["settings"]) == SETTINGS
    assert recorded["data"] == {"dataset": "some/blobs"}
    attach(one.stored.folder, evidence=evidence)
    assert load(one.stored.folder).evidence.outcome == "helps"


def test_settings_survive_json():
    settings = replace(SETTINGS, optimiser=TunedAdam(weight_decay=0.1), schedule="cosine")
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    with pytest.raises(EvidenceError, match="cannot be run by this version"):
        Settings.from_json(settings.to_json() | {"optimiser": {"name": "lion"}})


def test_weights_of_no_quality_make_no_difference(tmp_path):
    evidence = evaluate(trial(tmp_path, quality=0.0), [MLP], QUICK)
    assert evidence.outcome == "no_difference"
    assert {one.control: one.outcome for one in evidence.verdicts}["shuffled"] == "no_difference"
    assert "No difference to:" in evidence.summary


def test_weights_that_prefer_mistakes_hurt(tmp_path):
    evidence = evaluate(trial(tmp_path, quality=-1.0), [MLP], QUICK)
    assert evidence.outcome == "hurts"
    assert evidence.break_even.reuses is None


def test_several_trials_count_each_once(tmp_path):
    seen = []
    trials = [trial(tmp_path / str(number), number) for number in range(3)]
    evidence = evaluate(trials, [MLP], QUICK, progress=lambda *said: seen.append(said))
    assert (evidence.protocol.splits, evidence.protocol.learning_runs) == (3, 3)
    assert all(one.runs == 15 for one in evidence.measurements)
    records = evidence.protocol.parameters["trials"]
    seeds = [tuple(record["results"][0]["seeds"]) for record in records]
    assert len(set(seeds)) == 3
    none = next(one for one in evidence.measurements if one.control == "none")
    by_trial = [next(r for r in record["results"] if r["arm"] == "none")["accuracy"] for record in records]
    assert none.accuracy_mean == pytest.approx(np.mean(by_trial))
    assert "student seeds only" not in evidence.summary
    assert seen[-1][:2] == (18, 18)
    assert "trial 3" in seen[-1][2]


def test_the_overall_rule():
    arms = [_Named("commentary", "commentary"), _Named("none"), _Named("equal_data"), _Named("cleanlab", "competitor")]

    def outcome(**outcomes):
        return outcome_of([Verdict(student="s", control=c, outcome=o, sentence="") for c, o in outcomes.items()], arms)

    assert outcome(none="helps", equal_data="helps", cleanlab="hurts") == "helps"
    assert outcome(none="helps", equal_data="no_difference") == "no_difference"
    assert outcome(none="hurts", equal_data="helps") == "no_difference"
    assert outcome(none="helps", equal_data="hurts") == "hurts"
    assert outcome(cleanlab="helps") == "no_difference"


class _Named:
    def __init__(self, name, role="control"):
        self.name, self.role = name, role


def test_an_interrupted_evaluation_goes_on(tmp_path, monkeypatch):
    one, pieces = trial(tmp_path / "a"), PieceFolder(tmp_path / "pieces")
    calls = []
    monkeypatch.setattr(_compare, "train", lambda *args, **options: calls.append(1) or train(*args, **options))

    def interrupt(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(one, [MLP], QUICK, pieces=pieces, progress=interrupt)
    first = len(calls)
    whole = evaluate(one, [MLP], QUICK, pieces=pieces)
    assert len(calls) - first == first == 6  # tuning and measuring of three arms before, of three after
    plain = evaluate(one, [MLP], QUICK)
    assert [m.accuracy_mean for m in whole.measurements] == [m.accuracy_mean for m in plain.measurements]


def test_leakage_is_refused(tmp_path):
    one = trial(tmp_path)
    for name, part, count in [("test", one.train, 240), ("selection", one.trusted, 12)]:
        mixed = Examples.concatenated(examples(20, 77), part)
        with pytest.raises(EvidenceError, match=rf"leakage: {count} of the {20 + count} {name}"):
            replace(one, **{name: mixed})
    with pytest.raises(EvidenceError, match="taught by 12 examples: give them"):
        replace(one, trusted=None)
    with pytest.raises(EvidenceError, match="at least one trial"):
        evaluate([], [MLP], QUICK)


def test_parts_whose_keys_say_nothing_of_each_other_are_refused(tmp_path):
    one = trial(tmp_path)
    with pytest.raises(SplitError, match="train and test cannot be compared"):
        replace(one, test=replace(one.test, form="image"))


def test_a_commentary_of_other_data_is_refused(tmp_path):
    one = trial(tmp_path)
    with pytest.raises(TooFewRows, match="knows 0 of 240"):
        evaluate(replace(one, train=examples(240, 50)), [MLP], QUICK)
    with pytest.raises(WrongDataset, match="keys of numeric examples"):
        example_weights(one.stored, replace(one.train, form="image"))


def test_weights_reach_the_examples_they_belong_to(tmp_path):
    one = trial(tmp_path)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    plain = example_weights(one.stored, one.train)
    assert plain.shape == (1, 240)
    assert torch.equal(example_weights(one.stored, one.train.subset(order)), plain[:, order])
    assert (plain[0, one.mistaken].max() < plain[0, ~one.mistaken].min()).item()


def test_auroc_is_sklearns():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(5, (200,), generator=generator).double()
    positive = torch.rand(200, generator=generator) < 0.3
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    with pytest.raises(EvidenceError, match="of both sorts"):
        auroc(scores, torch.ones(200, dtype=torch.bool))


def test_filters_survive_recording():
    keep = torch.rand(83) < 0.5
    assert torch.equal(unpacked(packed(keep), 83), keep)
    for text, size in [("??", 3), (packed(keep), 200), (packed(keep), 10)]:
        with pytest.raises(EvidenceError, match="recorded filter"):
            unpacked(text, size)


# Verification


def sets_of(one, **change):
    sets = {name: getattr(one, name) for name in ("train", "trusted", "selection", "test")}
    return sets | {"account": "somebody", "students": [MLP]} | change


def test_the_same_evaluation_agrees(good):
    one, evidence = good
    record = verify(one.stored, evidence=evidence, **sets_of(one))
    assert record.agrees
    assert record.tensor_digest == one.stored.tensor_digest
    assert "9 of 9 arms" in record.detail
    assert verified(evidence, record).verifications == (record,)
    other = record.model_copy(update={"tensor_digest": "0" * 64})
    with pytest.raises(EvidenceError, match="other tensors"):
        verified(evidence, other)


def test_inflated_numbers_do_not_agree(good):
    one, evidence = good
    parameters = json.loads(json.dumps(evidence.protocol.parameters))
    for result in parameters["trials"][0]["results"]:
        if result["arm"] == "clean_only":
            result["accuracy_ci95"] = [value - 0.2 for value in result["accuracy_ci95"]]
    protocol = evidence.protocol.model_copy(update={"parameters": parameters})
    record = verify(one.stored, evidence=evidence.model_copy(update={"protocol": protocol}), **sets_of(one))
    assert not record.agrees
    assert record.detail.startswith("mlp · clean_only: accuracy")
    assert "8 of 9 arms" in record.detail


def test_verification_needs_the_measured_sets_and_the_same_tensors(good, tmp_path):
    one, evidence = good
    for name, part in [("test", examples(200, 70)), ("train", examples(240, 0)), ("trusted", examples(12, 71))]:
        with pytest.raises(EvidenceError, match=f"the {name} examples are not those"):
            verify(one.stored, evidence=evidence, **sets_of(one, **{name: part}))
    other = trial(tmp_path / "other", quality=0.5)
    with pytest.raises(EvidenceError, match="carries no evidence"):
        verify(other.stored, **sets_of(one))
    with pytest.raises(EvidenceError, match="other tensors"):
        verify(other.stored, evidence=evidence, **sets_of(one))
    with pytest.raises(EvidenceError, match="how student 'mlp' is built"):
        verify(one.stored, evidence=evidence, **sets_of(one, students=None))
    for parameters in ({}, {"settings": SETTINGS.to_json(), "trials": [{"tensor_digest": "x"}]}):
        broken = evidence.model_copy(
            update={"protocol": evidence.protocol.model_copy(update={"parameters": parameters})}
        )
        with pytest.raises(EvidenceError, match="what is needed to run it again"):
            verify(one.stored, evidence=broken, **sets_of(one))


def test_recorded_students_are_built_from_the_registry(tmp_path):
    one = trial(tmp_path)
    student = NetworkStudent("small", "mlp", {"inputs": 8, "hidden": [12], "classes": 4})
    settings = replace(QUICK, seeds=2, steps=15, learning_rates=(0.1,))
    evidence = Evidence.from_json(evaluate(one, [student], settings).to_json())
    assert verify(one.stored, evidence=evidence, **sets_of(one, students=None)).agrees
    known = {"small": {"network": "mlp", "settings": {"inputs": 8, "hidden": [12], "classes": 4, "evil": 1}}}
    parameters = evidence.protocol.parameters | {"students": known}
    broken = evidence.model_copy(update={"protocol": evidence.protocol.model_copy(update={"parameters": parameters})})
    with pytest.raises(EvidenceError, match="recorded student 'small' cannot be built"):
        verify(one.stored, evidence=broken, **sets_of(one, students=None))


def test_an_arm_that_was_not_run_again_disagrees(good):
    _, evidence = good
    results = evidence.protocol.parameters["trials"][0]["results"]

    nothing = Comparison((), (), {}, 0.7, 0.0)
    assert len(disagreements(nothing, results, tolerance=0)) == len(results)


@pytest.mark.parametrize(
    ("change", "counts"),
    [({}, True), ({"account": "Ada"}, False), ({"agrees": False}, False), ({"tensor_digest": "0" * 64}, False)],
)
def test_verified_needs_somebody_else_who_agrees_about_these_tensors(good, change, counts):
    _, evidence = good
    record = {"account": "grace", "date": "2026-01-01", "hardware": "2 cores", "agrees": True,
              "tensor_digest": evidence.tensor_digest} | change  # fmt: skip
    with_record = evidence.model_copy(update={"verifications": (Verification(**record),)})
    assert with_record.is_verified("ada") is counts
    assert not evidence.is_verified("ada")


def test_evidence_of_learning_that_never_pays_can_be_read_again(good):
    _, evidence = good
    never = evidence.break_even.model_copy(update={"reuses": None, "saved_seconds_per_reuse": 0.0})
    poor = evidence.model_copy(update={"break_even": never})
    assert Evidence.from_json(poor.to_json()).break_even == never
