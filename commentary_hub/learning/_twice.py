"""Convolution and batch normalisation with second derivatives of their own: what a reverse sweep spends most time in.

PyTorch's second derivative of a convolution always works out the one in its inputs, which a student's first layer
never needs, and that of batch normalisation is some sixty small operations. Here each is a handful of operations that
the first derivative is made of. The results are the same; a third derivative of batch
normalisation is refused. Where nobody looks at gradients but for their derivatives, convolutions do not work them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from commentary_hub.errors import NotDifferentiable

_aten = torch.ops.aten


class TwiceDifferentiable(TorchFunctionMode):
    """Inside, `conv1d`, `conv2d`, `conv3d` and `batch_norm` by batch statistics are this module's.

    ``parameters`` are those that `gradients` will be asked for.
    """

    def __init__(self, parameters: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self._parameters = {_storage(p) for p in parameters}
        self._values = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        del types
        own = _OWN.get(func)
        return own(self, *args, **(kwargs or {})) if own else func(*args, **(kwargs or {}))

    def gradients(self, loss: Tensor, parameters: Sequence[Tensor], *, values: bool) -> tuple[Tensor | None, ...]:
        """dloss/dparameters with a graph, None where there is none.

        Without ``values`` their derivatives are right and their numbers are not: what a convolution gives to a view of
        the parameters is 0, a ninth less of the work. From a view to what it views all is linear, so that no
        derivative depends on these numbers; where something else lies between (weight standardisation), they are
        worked out.
        """
        self._values = values
        try:
            return torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        finally:
            self._values = True

    def looks_at_gradient(self, tensor: Tensor) -> bool:
        """Whether the numbers of the gradient in ``tensor`` matter."""
        return self._values or _storage(tensor) not in self._parameters


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _convolution(original: Callable[..., Tensor], dimensions: int) -> Callable[..., Tensor]:
    def convolution(
        mode: TwiceDifferentiable,
        input: Tensor,  # noqa: A002 - the original's name
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str) or input.ndim != dimensions + 2 or not _plain(input, weight, bias):
            return original(input, weight, bias, stride, padding, dilation, groups)
        every = [list(n) if isinstance(n, tuple | list) else [int(n)] * dimensions for n in (stride, padding, dilation)]
        outputs: Tensor = _Convolution.apply(input, weight, bias, (*every, False, [0] * dimensions, groups), mode)
        return outputs

    return convolution


def _plain(*tensors: Tensor | None) -> bool:
    """On CPU or CUDA, of one real floating type that no autocast changes, and nobody looks into the first derivative.

    Those who do are checkpoints within the student, which run its operations again outside of the mode, and functorch.
    """
    (first, *_), kinds = tensors, {(t.dtype, t.device.type) for t in tensors if t is not None}
    assert first is not None
    place = first.device.type
    if len(kinds) != 1 or not first.is_floating_point() or place not in {"cpu", "cuda"}:
        return False
    watched = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None  # noqa: FBT003
    within = torch._C._functorch.maybe_current_level() is not None
    return not watched and not within and not torch.is_autocast_enabled(place)


def _batch_norm(
    _mode: TwiceDifferentiable,
    input: Tensor,  # noqa: A002 - the original's name
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002 - the original's place
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    plain = weight is not None and bias is not None and _plain(input, weight, bias, running_mean)
    if not training or not plain or input.numel() == input.shape[1]:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    settings = (running_mean, running_var, momentum, eps)
    outputs: Tensor = _BatchNorm.apply(input, weight, bias, settings)
    return outputs


_OWN: dict[Any, Callable[..., Tensor]] = {
    functional.batch_norm: _batch_norm,
    **{
        original: _convolution(original, dimensions)
        for dimensions, original in enumerate((torch.conv1d, torch.conv2d, torch.conv3d), start=1)
    },
}


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, settings: Any, mode: TwiceDifferentiable) -> Tensor:
        ctx.save_for_backward(x, w, b)
        ctx.settings, ctx.mode = settings, mode
        outputs: Tensor = _aten.convolution(x, w, b, *settings)
        return outputs

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w, b = ctx.saved_tensors
        needed = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], b is not None and ctx.needs_input_grad[2])
        if not torch.is_grad_enabled():  # no second derivative will be asked for
            return *_aten.convolution_backward(g, x, w, [len(w)], *ctx.settings, needed), None, None
        looked_at = (True, ctx.mode.looks_at_gradient(w), b is None or ctx.mode.looks_at_gradient(b))
        return *_ConvolutionBackward.apply(g, x, w, ctx.settings, needed, looked_at), None, None


class _ConvolutionBackward(torch.autograd.Function):
    """dx = g ⋆ wᵀ, dw = x ⋆ g, db = Σ g: each is linear in each factor, so that its derivatives are such again.

    What is ``needed`` and not ``looked_at`` is 0 here, and its derivatives are as ever.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, settings: Any, needed: Sequence[bool], looked_at: Sequence[bool]
    ) -> Any:
        ctx.save_for_backward(g, x, w)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        wanted = tuple(n and v for n, v in zip(needed, looked_at, strict=True))
        found = _aten.convolution_backward(g, x, w, [len(w)], *settings, wanted)
        zeros = (None, w.new_zeros(()).expand_as(w), w.new_zeros(()).expand(len(w)))
        return tuple(f if v or not n else z for f, n, v, z in zip(found, needed, looked_at, zeros, strict=True))

    @staticmethod
    def backward(ctx: Any, to_x: Tensor | None, to_w: Tensor | None, to_b: Tensor | None) -> Any:
        g, x, w = ctx.saved_tensors
        parts, by_x, by_w = [], None, None
        if to_w is not None:
            parts.append(_aten.convolution(x, to_w, to_b, *ctx.settings))
            if ctx.needs_input_grad[1]:
                by_x = _aten.convolution_backward(g, x, to_w, None, *ctx.settings, (True, False, False))[0]
        elif to_b is not None:
            parts.append(to_b.reshape(-1, *[1] * (g.ndim - 2)).expand_as(g))
        if to_x is not None:
            parts.append(_aten.convolution(to_x, w, None, *ctx.settings))
            if ctx.needs_input_grad[2]:
                by_w = _aten.convolution_backward(g, to_x, w, None, *ctx.settings, (False, True, False))[1]
        return (parts[0] if len(parts) == 1 else parts[0] + parts[1]) if parts else None, by_x, by_w, None, None, None


class _BatchNorm(torch.autograd.Function):
    """y = w x̂ + b with x̂ = (x − μ)s, s = (σ² + eps)^−½, over all but the channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, settings: Any) -> Tensor:
        running_mean, running_var, momentum, eps = settings
        y, mean, scale = torch.native_batch_norm(
            x, w, b, running_mean, running_var, training=True, momentum=momentum, eps=eps
        )
        ctx.save_for_backward(x, w, mean, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w, mean, scale = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *_batch_norm_backward(g, x, w, mean, scale, ctx.eps), None
        return *_BatchNormBackward.apply(g, x, w, mean, scale, ctx.eps), None


class _BatchNormBackward(torch.autograd.Function):
    """dx = w s P(g), dw = Σ g x̂, db = Σ g with P(a) = a − mean(a) − x̂ mean(a x̂), which is symmetric.

    Let u, v, c be the cotangents of dx, dw, db, n the numbers per channel and q = Σ u s P(g). With dx̂ = s P(dx) and
    ds = −s² mean(x̂ dx) the derivative of Σ u dx + v dw + c db is, by g: w s P(u) + v x̂ + c; by w: q;
    by x: v s P(g) − (w s / n) (q x̂ + (Σ u x̂) s P(g) + (Σ g x̂) s P(u)).
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, mean: Tensor, scale: Tensor, eps: float) -> Any:
        projected, dw, db = _batch_norm_backward(g, x, None, mean, scale, eps)
        ctx.save_for_backward(x, w, mean, scale, projected, dw)
        ctx.eps = eps
        return projected * _wide(w, x), dw, db

    @staticmethod
    def backward(ctx: Any, u: Tensor, v: Tensor, c: Tensor) -> Any:
        if torch.is_grad_enabled():  # mean and scale are held fixed below
            raise NotDifferentiable(
                "batch normalisation has no third derivative: does the student take gradients within itself? "
                "Give it none, or no batch normalisation"
            )
        x, w, mean, scale, projected, dw = ctx.saved_tensors
        along, ux, _ = _batch_norm_backward(u, x, None, mean, scale, ctx.eps)
        q = (u * projected).sum([0, *range(2, x.ndim)])
        scaled, share = v * scale, w * scale / (x.numel() // x.shape[1])
        pull, level = share * scale * q, torch.addcmul(c, scaled, mean, value=-1)
        by_g = torch.addcmul(_wide(level, x), x, _wide(scaled, x)).addcmul_(along, _wide(w, x))
        by_x = torch.addcmul(_wide(pull * mean, x), x, _wide(pull, x), value=-1)
        by_x.addcmul_(projected, _wide(torch.addcmul(v, share, ux, value=-1), x))
        by_x.addcmul_(along, _wide(share * dw, x), value=-1)
        return by_g, by_x, q, None, None, None


def _batch_norm_backward(
    g: Tensor, x: Tensor, w: Tensor | None, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(w s P(g), Σ g x̂, Σ g), with w = 1 where there is none."""
    w = torch.ones_like(scale) if w is None else w  # without one, CUDA leaves the sums out
    found: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        g, x, w, None, None, mean, scale, train=True, eps=eps, output_mask=(True, True, True)
    )
    return found


def _wide(vector: Tensor, like: Tensor) -> Tensor:
    """[C] as [C, 1, …], to go with [B, C, …]."""
    return vector.view(-1, *[1] * (like.ndim - 2))
