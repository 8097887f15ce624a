"""Evidence: does a commentary help? Arms at the same budget, tuned alike, paired, with intervals.

::

    trial = Trial(load("owner/name"), train=..., trusted=..., selection=..., test=...)
    student = NetworkStudent("cnn", "cnn", {"channels": 1, "classes": 10})
    certificate = evaluate(trial, [student], Settings(steps=300, batch_size=64, learning_rates=(0.01, 0.03, 0.1)))
"""

from commentary_hub.evidence._arms import (
    COMMENTARY,
    Arm,
    bound_arm,
    filtered_arm,
    standard_arms,
    weighted_arm,
    with_trusted,
)
from commentary_hub.evidence._certificate import OUTCOME_WORDS, auroc, hardware, verdict_of
from commentary_hub.evidence._compare import Progress, compare
from commentary_hub.evidence._competitors import Filtered, cleanlab_filter, mixup_arm, smoothing_arm, trimming_arm
from commentary_hub.evidence._controls import Trial, arms_of, example_weights
from commentary_hub.evidence._evaluate import VERDICT_RULE, NetworkStudent, Settings, check_trial, evaluate, run_trial
from commentary_hub.evidence._optimisers import TunedAdam, TunedSGD
from commentary_hub.evidence._pieces import PieceFolder, Pieces, digest_of
from commentary_hub.evidence._runs import Comparison, Runs
from commentary_hub.evidence._statistics import INTERVAL_RULE, interval
from commentary_hub.evidence._train import Budget, StudentLike, Trained, train
from commentary_hub.evidence._verify import AGREEMENT_RULE, check_repeatable, verified, verify

__all__ = [
    "AGREEMENT_RULE",
    "COMMENTARY",
    "INTERVAL_RULE",
    "OUTCOME_WORDS",
    "VERDICT_RULE",
    "Arm",
    "Budget",
    "Comparison",
    "Filtered",
    "NetworkStudent",
    "PieceFolder",
    "Pieces",
    "Progress",
    "Runs",
    "Settings",
    "StudentLike",
    "Trained",
    "Trial",
    "TunedAdam",
    "TunedSGD",
    "arms_of",
    "auroc",
    "bound_arm",
    "check_repeatable",
    "check_trial",
    "cleanlab_filter",
    "compare",
    "digest_of",
    "evaluate",
    "example_weights",
    "filtered_arm",
    "hardware",
    "interval",
    "mixup_arm",
    "run_trial",
    "smoothing_arm",
    "standard_arms",
    "train",
    "trimming_arm",
    "verdict_of",
    "verified",
    "verify",
    "weighted_arm",
    "with_trusted",
]
