"""Evidence: does a commentary help? Arms at the same budget, tuned alike, paired, with intervals."""

from commentary_hub.evidence._arms import (
    COMMENTARY,
    Arm,
    bound_arm,
    filtered_arm,
    standard_arms,
    weighted_arm,
    with_trusted,
)
from commentary_hub.evidence._compare import compare
from commentary_hub.evidence._optimisers import TunedAdam, TunedSGD
from commentary_hub.evidence._pieces import PieceFolder, Pieces
from commentary_hub.evidence._runs import Comparison, Runs
from commentary_hub.evidence._statistics import INTERVAL_RULE, interval
from commentary_hub.evidence._train import StudentLike

__all__ = [
    "COMMENTARY",
    "INTERVAL_RULE",
    "Arm",
    "Comparison",
    "PieceFolder",
    "Pieces",
    "Runs",
    "StudentLike",
    "TunedAdam",
    "TunedSGD",
    "bound_arm",
    "compare",
    "filtered_arm",
    "interval",
    "standard_arms",
    "weighted_arm",
    "with_trusted",
]
