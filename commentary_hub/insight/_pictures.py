"""The pictures of a commentary, by its kind."""

from __future__ import annotations

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import AttentionMask, ExampleWeights, LabelBlend, MixtureWeights, WeightNetwork
from commentary_hub.data import Examples
from commentary_hub.insight._blends import heat_map
from commentary_hub.insight._extremes import as_numbers, extremes
from commentary_hub.insight._masks import masked
from commentary_hub.insight._ranking import weights_over_training
from commentary_hub.insight._shares import shares
from commentary_hub.insight._weights import Weights, curves, histogram

Pictures = dict[str, tuple[bytes, str]]
_SAMPLE = 1_000_000


def pictures(stored: StoredCommentary, examples: Examples | None = None) -> Pictures:
    """What a commentary says, drawn for its card: file name → (PNG, alternative text in one sentence).

    ``examples`` adds what can only be shown with the dataset at hand: the examples of highest and lowest weight (found
    by content and target, so any subset in any order will do), and what a network says of them. By kind:

    - ``example_weights``: ``weights.png``; ``curves.png`` where there are several stages; with pictures as examples
      ``highest.png``, ``lowest.png`` and ``samples.png`` (by the mean over the stages). Of more than a million rows an
      even sample is drawn.
    - ``weight_network``, with examples: the same, where progress counts over 16 stages of training.
    - ``label_blend``: ``blend.png``, the ratio of every pair of classes.
    - ``mixture_weights``: ``shares.png``, the share of every source.
    - ``attention_mask``, with examples: ``masks.png``, the first twelve with their masks.

    Other kinds have no pictures: an empty dictionary. Raises `WrongDataset` where no example is known to a table, and
    `MissingExtra` without matplotlib. The result is what ``artefact.attach(folder, plots=...)`` takes.
    """
    match stored.manifest.kind, stored.commentary:
        case "example_weights", ExampleWeights() as commentary:
            return _of_table(stored, commentary, examples)
        case "weight_network", WeightNetwork() if examples is not None:
            return _of_network(stored, examples)
        case "label_blend", LabelBlend() as commentary:
            return {"blend.png": heat_map(as_numbers(commentary.ratios()), stored.manifest.dataset.classes)}
        case "mixture_weights", MixtureWeights() as commentary:
            return {"shares.png": shares(commentary.probabilities())}
        case "attention_mask", AttentionMask() as commentary if examples is not None:
            return {"masks.png": masked(commentary, examples.inputs)}
        case _:
            return {}


def _of_table(stored: StoredCommentary, commentary: ExampleWeights, examples: Examples | None) -> Pictures:
    table = commentary.logits
    if len(table) == 0:
        return {}
    drawn = as_numbers(
        table[:: -(-len(table) // _SAMPLE)].float().sigmoid()
    )  # keys are digests: their order is no order
    of = f"{len(table):,} examples"
    found = _spread(drawn, of=of, steps=stored.manifest.iterations.steps if stored.manifest.iterations else None)
    if examples is not None:
        weights = weights_over_training(stored, examples)
        assert weights is not None
        found |= extremes(examples, weights.mean(axis=1))
    return found


def _of_network(stored: StoredCommentary, examples: Examples) -> Pictures:
    weights = weights_over_training(stored, examples)
    assert weights is not None
    of, iterations = f"{len(examples):,} examples", stored.manifest.iterations
    return _spread(weights, of=of, steps=iterations.steps if iterations else None) | extremes(
        examples, weights.mean(axis=1)
    )


def _spread(weights: Weights, *, of: str, steps: int | None) -> Pictures:
    """Histogram (of the means over training) and, for several stages, curves of weights [N, S]."""
    if weights.shape[1] == 1:
        return {"weights.png": histogram(weights[:, 0], of=of)}
    return {
        "weights.png": histogram(weights.mean(axis=1), of=f"{of}, mean over training"),
        "curves.png": curves(weights, of=of, steps=steps),
    }
