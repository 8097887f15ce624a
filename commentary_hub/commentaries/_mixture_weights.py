"""One weight per source of a mixture of datasets: the form that text corpora need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from commentary_hub.commentaries._base import Batch, Commentary, Stage
from commentary_hub.errors import InputError, LabelError, ShapeError


@final
class MixtureWeights(Commentary):
    """w(row) = p_s / q_s for an example of source s, with p = softmax(logits).

    ``sources`` names the S sources, ``logits`` is [S]. p are the shares that the sources are to have; q_s is the share
    that source s has among the examples at hand. Therefore E_q[w ℓ] = Σ_s p_s E_s[ℓ]: weighting the losses of examples
    that come as they are is, in the mean, the same as sampling sources with probability p, and what was learned as
    weights is reused as `probabilities` (``interleave_datasets(probabilities=…)``) or the other way round.

    Which source an example is from is no part of what is learned: ``row_sources`` int64 [N] says it for the rows of
    one dataset (-1: of no source, weight 1), is given anew for another dataset (`assigned`), and is never stored.
    Sources without a row there take no part: p is restricted to the others. One lookup per example and step.

    >>> mixture = MixtureWeights(["news", "plays"], row_sources=torch.tensor([0, 0, 0, 1]))
    >>> batch = Batch(torch.zeros(2, 4), torch.tensor([0, 1]), rows=torch.tensor([0, 3]))
    >>> mixture(batch, progress=0.0).weights.tolist()
    [0.6666666865348816, 2.0]
    >>> mixture.probabilities()
    {'news': 0.5, 'plays': 0.5}
    """

    kind: ClassVar[str] = "mixture_weights"
    stage: ClassVar[Stage] = Stage.WEIGHT

    row_sources: Tensor | None
    shares: Tensor | None

    def __init__(self, sources: Sequence[str], *, row_sources: Tensor | Sequence[int] | None = None) -> None:
        super().__init__()
        if isinstance(sources, str) or not sources or not all(isinstance(name, str) and name for name in sources):
            raise InputError(f"sources are {sources!r}: give a list with a name for each source")
        if len(set(sources)) < len(sources):
            raise InputError(f"sources are {', '.join(sources)}: each needs a name of its own")
        self.sources = tuple(sources)
        self.logits = nn.Parameter(torch.zeros(len(self.sources)))
        rows = None if row_sources is None else torch.as_tensor(row_sources)
        shares = None if rows is None else _shares(rows, len(self.sources))
        self.register_buffer("row_sources", rows, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def assigned(self, row_sources: Tensor | Sequence[int]) -> MixtureWeights:
        """The same weights (shared, not copied) for the rows of another dataset, int64 [N] of source numbers.

        Raises `ShapeError` or `LabelError` for what are no source numbers, or where no row has a source.
        """
        other = MixtureWeights(self.sources, row_sources=torch.as_tensor(row_sources).to(self.logits.device))
        other.logits = self.logits
        return other.train(self.training)

    def streamed(self, shares: Tensor) -> MixtureWeights:
        """The same weights for a stream, where an example's row is the number of its source.

        ``shares`` [S] are the stream's q up to a factor (counts will do), 0 for a source that takes no part. They may
        be told anew later (`tell`). Raises `ShapeError` for another number of them, `InputError` for negative ones.
        """
        other = self.assigned(torch.arange(len(self.sources)))
        other.tell(shares)
        return other

    def tell(self, shares: Tensor) -> None:
        """Replace the q [S], up to a factor; raises as `streamed` does."""
        if shares.shape != self.logits.shape:
            raise ShapeError(
                f"shares are {list(shares.shape)}, expected {list(self.logits.shape)}: one for each source",
                tensor="shares",
                shape=tuple(shares.shape),
            )
        if not bool((shares >= 0).all()) or not 0 < float(shares.sum()) < torch.inf:
            raise InputError("shares of sources are numbers from 0 on, not all of them 0")
        self.shares = (shares / shares.sum()).to(self.logits)

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Multiply the batch's weights by p_s / q_s of each example's source; ``progress`` changes nothing."""
        del progress
        if self.row_sources is None:
            raise ShapeError(
                "a mixture does not know which row is of which source: give it the dataset's (assigned(row_sources))",
                tensor="row_sources",
            )
        if batch.rows is None:
            raise ShapeError("a mixture needs batch.rows, to look up each example's source", tensor="rows")
        source = torch.where(batch.rows >= 0, self.row_sources[batch.rows.clamp_min(0)], -1)
        return batch.weighted(self._weights_of(source))

    def probabilities(self, sources: Sequence[str] | None = None) -> dict[str, float]:
        """The p by name, adding up to 1: of all sources, or of some of them in the order given (restricted to these).

        Raises `InputError` for a source that the mixture does not know.
        """
        chosen = self.sources if sources is None else tuple(sources)
        unknown = [name for name in chosen if name not in self.sources]
        if unknown or not chosen:
            raise InputError(
                f"no source {', '.join(map(repr, unknown)) or 'was named'}: the mixture is of {', '.join(self.sources)}"
            )
        at = torch.tensor([self.sources.index(name) for name in chosen], device=self.logits.device)
        shares = torch.softmax(self.logits.detach().double()[at], dim=0)
        return dict(zip(chosen, shares.tolist(), strict=True))

    @torch.no_grad()
    def values(self) -> Tensor:
        """The weight of every assigned row [N], detached: what a weighted sampler draws by."""
        if self.row_sources is None:
            raise ShapeError("no rows are assigned to the mixture: assigned(row_sources) first", tensor="row_sources")
        return self._weights_of(self.row_sources)

    def _weights_of(self, source: Tensor) -> Tensor:
        assert self.shares is not None
        present = self.shares > 0
        mixed = torch.softmax(self.logits.masked_fill(~present, -torch.inf), dim=0)
        weights = mixed / torch.where(present, self.shares, 1).to(mixed.dtype)
        return torch.where(source >= 0, weights[source.clamp_min(0)], weights.new_ones(()))

    def config(self) -> dict[str, Any]:
        """The sources' names."""
        return {"sources": list(self.sources)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MixtureWeights:
        """Rebuild the mixture's frame, without rows."""
        return cls(config["sources"])


def _shares(row_sources: Tensor, sources: int) -> Tensor:
    """The q [S], each source's share of the rows that have one."""
    if row_sources.dtype != torch.int64 or row_sources.dim() != 1:
        raise ShapeError(
            f"row_sources are {row_sources.dtype} {list(row_sources.shape)}, expected int64 [rows]: "
            "one source number per example",
            tensor="row_sources",
            shape=tuple(row_sources.shape),
        )
    if row_sources.numel() and (int(row_sources.min()) < -1 or int(row_sources.max()) >= sources):
        raise LabelError(
            f"row_sources run from {int(row_sources.min())} to {int(row_sources.max())}, but there are {sources} "
            f"sources (0 to {sources - 1}; -1 for none)",
            tensor="row_sources",
            classes=sources,
        )
    counts = torch.bincount(row_sources[row_sources >= 0], minlength=sources)
    if not int(counts.sum()):
        raise LabelError("no row has a source: a mixture needs rows of at least one", tensor="row_sources")
    return counts / counts.sum()
