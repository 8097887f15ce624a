"""Example weights as a function of the example, its label and the age of the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from commentary_hub.commentaries._base import Batch, Commentary, Stage, check_labels
from commentary_hub.commentaries._network import Inner, planes
from commentary_hub.errors import InputError, ShapeError

Labels = Literal["none", "index", "input"]


@final
class WeightNetwork(Commentary):
    """w(x, y, i/T) = sigmoid(g(x, y, i/T)) in (0, 1), g a network: weights for examples that no table knows.

    ``network`` names g in the registry (``cbr`` is the paper's trunk, ``mlp`` for features) with ``settings`` as the
    *data* asks for them: channels or inputs of an example, its size. This kind adds what it feeds and reads itself:

    - ``progress``: i/T as one more constant channel (one more feature for vectors);
    - ``labels="index"``: g has one output per class and w = sigmoid(g(x)[y]); the form that learns best from few
      examples. ``"input"``: the one-hot label as ``classes`` more constant channels. ``"none"``: w does not see y.

    A caller's own module may stand in for the name: it must take the added channels and return [B, 1], or
    [B, classes] with ``labels="index"``. It can be learned and applied; to be stored it needs a name (see
    ``register_network``). Text (token ids) has no channels: use ``labels`` other than ``"input"`` and no progress.
    Cost: one pass of g per step.

    >>> weights = WeightNetwork("mlp", settings={"inputs": 4, "hidden": [8]}, labels="index", classes=3)
    >>> weights(Batch(torch.zeros(2, 4), torch.tensor([0, 2])), progress=0.5).weights.shape
    torch.Size([2])
    """

    kind: ClassVar[str] = "weight_network"
    stage: ClassVar[Stage] = Stage.WEIGHT

    def __init__(
        self,
        network: str | nn.Module = "cbr",
        *,
        settings: Mapping[str, Any] | None = None,
        labels: Labels = "none",
        classes: int | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if labels not in {"none", "index", "input"}:
            raise InputError(f"labels is {labels!r}: choose 'none', 'index' or 'input'")
        if (labels == "none") != (classes is None):
            raise InputError(f"labels={labels!r} and classes={classes} do not go together: classes are for labels")
        self.labels: Labels = labels
        self._classes = classes
        self.progress = progress
        given = dict(settings or {})
        outputs = {"classes": classes if labels == "index" else 1} if isinstance(network, str) else {}
        self._given = given
        self._vectors = "inputs" in given
        self.network = Inner(network, self._widened(given) | outputs)

    @property
    def classes(self) -> int | None:
        """How many classes it knows; ``None`` where it does not look at labels."""
        return self._classes

    def forward(self, batch: Batch, progress: Tensor | float) -> Batch:
        """Multiply the batch's weights by the network's."""
        if self._classes is not None:
            check_labels(batch.targets, self._classes)
        outputs = self.network(self._seen(batch, progress))
        expected = (len(batch.inputs), self._classes if self.labels == "index" and self._classes else 1)
        if outputs.shape != expected:
            raise ShapeError(
                f"the weight network returned {list(outputs.shape)}, expected {list(expected)}",
                tensor="weights",
                shape=tuple(outputs.shape),
            )
        own = outputs.gather(1, batch.targets[:, None]) if self.labels == "index" else outputs
        return batch.weighted(torch.sigmoid(own.squeeze(1)))

    def config(self) -> dict[str, Any]:
        """The network's name and settings, and what it is fed."""
        return {
            "network": self.network.name,
            "settings": self._given,
            "labels": self.labels,
            "classes": self._classes,
            "progress": self.progress,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightNetwork:
        """Build it anew from the registry of networks."""
        return cls(**config)

    @property
    def value_range(self) -> tuple[float, float]:
        """Weights lie in (0, 1)."""
        return (0.0, 1.0)

    @property
    def _added(self) -> int:
        """How many channels are put beside the inputs."""
        return int(self.progress) + (self._classes if self.labels == "input" and self._classes else 0)

    def _widened(self, given: dict[str, Any]) -> dict[str, Any]:
        name = "inputs" if "inputs" in given else "channels"
        return given | {name: given[name] + self._added} if name in given else given

    def _seen(self, batch: Batch, progress: Tensor | float) -> Tensor:
        """The inputs with the constant channels beside them."""
        inputs = self.network.fitted(batch.inputs.flatten(1) if self._vectors else batch.inputs)
        if not self._added:
            return inputs
        if not inputs.is_floating_point() or inputs.dim() < 2:
            raise ShapeError(
                f"inputs {list(inputs.shape)} of {inputs.dtype} have no channels to put i/T or labels beside: "
                "use progress=False and labels='index' or 'none'",
                tensor="inputs",
                shape=tuple(inputs.shape),
            )
        columns = []
        if self.progress:
            age = torch.as_tensor(progress, dtype=inputs.dtype, device=inputs.device).clamp(max=1.0)
            columns.append(age.expand(len(inputs), 1))
        if self.labels == "input" and self._classes is not None:
            columns.append(functional.one_hot(batch.targets, self._classes).to(inputs.dtype))
        return planes(inputs, torch.cat(columns, dim=1))
