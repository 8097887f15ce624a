"""Plain competitors that need no commentary: cleanlab's filter, small-loss trimming, label smoothing, mixup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.commentaries import Batch, Blend
from commentary_hub.data import Examples
from commentary_hub.errors import EvidenceError, MissingExtra
from commentary_hub.evidence._arms import Arm, with_trusted
from commentary_hub.evidence._optimisers import Schedule, TunedOptimiser, TunedSGD
from commentary_hub.evidence._pieces import Pieces, piece_key
from commentary_hub.evidence._train import Budget, StudentLike, train

TRIMMED = (0.1, 0.2, 0.3, 0.5)
SMOOTHED = (0.05, 0.1, 0.2, 0.4)
MIXUP_ALPHAS = (0.1, 0.2, 0.4, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What a filter says of N examples: ``keep`` bool [N], and ``quality`` [N], higher for labels it believes."""

    keep: Tensor
    quality: Tensor


def cleanlab_filter(
    student: StudentLike,
    noisy: Examples,
    trusted: Examples | None,
    selection: Examples,
    *,
    steps: int,
    batch_size: int,
    learning_rates: Sequence[float],
    share: float = 0.2,
    folds: int = 5,
    repeats: int = 3,
    optimiser: TunedOptimiser | None = None,
    schedule: Schedule = "constant",
    seed: int = 0,
    device: torch.device | str = "cpu",
    pieces: Pieces | None = None,
) -> Filtered:
    """Cleanlab's confident learning on out-of-sample probabilities, given every chance.

    Probabilities are the mean over ``repeats`` students, each trained on the other folds and the trusted examples
    (repeated to ``share``), at the learning rate with the best mean accuracy on ``selection``. An example is dropped
    where `cleanlab.filter.find_label_issues` names it; ``quality`` is cleanlab's self-confidence. ``pieces`` keeps
    the result. Raises `MissingExtra` without cleanlab. Cost: folds · repeats · rates · steps student steps.
    """
    try:
        from cleanlab.filter import find_label_issues  # noqa: PLC0415 - optional
        from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingExtra("cleanlab is not installed: pip install 'commentary-hub[demo]'") from error
    labels = noisy.targets.numpy()
    if len(np.unique(labels)) < 2:
        raise EvidenceError("all training labels are the same, which leaves cleanlab nothing to filter: leave it out")
    budget, rates = Budget(steps, batch_size, optimiser or TunedSGD(), schedule), tuple(sorted(learning_rates))
    measured = (noisy, selection) if trusted is None else (noisy, trusted, selection)
    key = piece_key(student, Arm("cleanlab", noisy), measured, (budget, rates, share, folds, repeats, seed))
    known = None if pieces is None else pieces.get(key)
    if known is not None:
        return Filtered(torch.tensor(known["keep"]), torch.tensor(known["quality"], dtype=torch.float64))
    best = _out_of_fold(
        student, noisy, trusted, selection, budget, rates, share, folds, range(seed, seed + repeats), device
    )
    issues = find_label_issues(labels, best, n_jobs=1)
    quality = get_label_quality_scores(labels, best)
    found = Filtered(torch.from_numpy(~np.asarray(issues, dtype=bool)), torch.from_numpy(np.asarray(quality)))
    if pieces is not None:
        pieces.put(key, {"keep": found.keep.tolist(), "quality": found.quality.tolist()})
    return found


def _out_of_fold(
    student: StudentLike,
    noisy: Examples,
    trusted: Examples | None,
    selection: Examples,
    budget: Budget,
    rates: tuple[float, ...],
    share: float,
    folds: int,
    seeds: range,
    device: torch.device | str,
) -> NDArray[np.float64]:
    """Class probabilities [N, classes] of every noisy example, by students that were not trained on it."""
    classes = max(noisy.class_count, selection.class_count)
    fold = torch.randperm(len(noisy), generator=torch.Generator().manual_seed(seeds[0])) % folds
    probabilities = torch.zeros(len(rates), len(noisy), classes, dtype=torch.float64)
    accuracy = torch.zeros(len(rates), dtype=torch.float64)
    for number in range(folds):
        rest, held = noisy.subset(fold != number), noisy.subset(fold == number)
        trained = train(
            student,
            Arm("fold", rest if trusted is None else with_trusted(rest, trusted, share)),
            seeds=seeds,
            rates=rates,
            budget=budget,
            classes=classes,
            probes={
                "held": (held.inputs, held.targets),
                "selection": (selection.inputs, selection.targets),
            },
            at=(budget.steps,),
            device=device,
        )
        found = trained.outputs["held"].double().softmax(-1).nan_to_num(1 / classes)
        probabilities[:, fold == number] = found.reshape(len(seeds), len(rates), *found.shape[1:]).mean(0)
        accuracy += trained.accuracy["selection"][:, -1].reshape(len(seeds), len(rates)).mean(0)
    best: NDArray[np.float64] = probabilities[int(accuracy.argmax())].numpy()
    return best


def trimming_arm(examples: Examples) -> Arm:
    """Small-loss trimming: in each batch the highest losses are left out; the share is chosen with the rate."""
    arms = [Arm("trimming", examples, trimmed=share, note=f"highest {share:.0%} left out") for share in TRIMMED]
    return _with_variants(arms)


def smoothing_arm(examples: Examples) -> Arm:
    """Label smoothing; ε is chosen with the rate."""
    return _with_variants([Arm("label_smoothing", examples, smoothing=eps, note=f"ε = {eps:g}") for eps in SMOOTHED])


def mixup_arm(examples: Examples) -> Arm:
    """Mixup at its best α (chosen with the rate): one λ ~ Beta(α, α) for each batch, partners a permutation of it."""
    return _with_variants(
        [Arm("mixup", examples, change=_mixup(alpha), note=f"α = {alpha:g}") for alpha in MIXUP_ALPHAS]
    )


def _mixup(alpha: float) -> Callable[..., Batch]:
    def change(inputs: Tensor, targets: Tensor, rows: Tensor, progress: float, *, seed: int) -> Batch:
        del rows, progress
        rng = np.random.default_rng(seed)
        ratio = float(rng.beta(alpha, alpha))
        other = torch.from_numpy(rng.permutation(len(inputs))).to(inputs.device)
        blend = Blend(targets[other], torch.full((len(inputs),), ratio, device=inputs.device))
        return Batch(ratio * inputs + (1 - ratio) * inputs[other], targets, blend=blend, seed=seed)

    return change


def _with_variants(arms: Sequence[Arm]) -> Arm:
    first, *others = arms
    return Arm(
        first.name,
        first.examples,
        change=first.change,
        smoothing=first.smoothing,
        trimmed=first.trimmed,
        variants=tuple(others),
        role="competitor",
        note=first.note,
    )
