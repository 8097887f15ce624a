"""Commentaries in Lightning, in one changed line.

::

    trainer.fit(*commented(module, loader, stored))
    # was: trainer.fit(module, loader)

Where a module's own ``training_step`` does more than a loss, the line goes in there instead, with
``DataLoader(binding, …)`` as its data::

    loss = binding.loss(self, inputs, targets, rows, progress=binding.progress_at(self.global_step))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from commentary_hub.errors import InputError, MissingExtra
from commentary_hub.reuse._any_dataset import Bound, Stored, bind_any, rows_attached
from commentary_hub.reuse._samples import CollateBeside, RowsBeside

try:
    from lightning.pytorch import LightningDataModule, LightningModule
    from lightning.pytorch.utilities.model_helpers import is_overridden
except ImportError as error:
    raise MissingExtra('lightning is not installed: pip install "commentary-hub[integrations]"') from error

AnyModule = TypeVar("AnyModule", bound=LightningModule)
AnyData = TypeVar("AnyData", bound=LightningDataModule)
Unpack = Callable[[Any], tuple[Tensor, Tensor]]

__all__ = ["commented"]


@overload
def commented(
    module: AnyModule, data: DataLoader[Any], commentary: Stored | Bound, *, unpack: Unpack | None = ..., **options: Any
) -> tuple[AnyModule, DataLoader[Any]]: ...
@overload
def commented(
    module: AnyModule, data: AnyData, commentary: Stored | Bound, *, unpack: Unpack | None = ..., **options: Any
) -> tuple[AnyModule, AnyData]: ...
def commented(
    module: LightningModule, data: Any, commentary: Stored | Bound, *, unpack: Unpack | None = None, **options: Any
) -> tuple[LightningModule, Any]:
    """The module, changed in place, and data for it, so that ``trainer.fit`` of the two trains under a commentary.

    ``data`` is a ``DataLoader`` or a ``LightningDataModule``; stored commentaries are bound to the loader's dataset
    with the ``options`` of `bind` (for a data module when it makes its loader), a binding must be that dataset's.
    Sampler, workers and collate function stay the loader's own. What was given stays as it is, for a plain run or
    another commentary; a data module and the one returned share their attributes. Given what an earlier call
    returned, the new commentary takes the place of the earlier one.

    ``module.training_step`` is replaced: its loss is the binding's, of ``module(inputs)`` against the targets, logged
    as ``train_loss``. ``unpack`` tells (inputs, targets) of a batch that is no pair (a lambda cannot be pickled with
    the module). All other hooks and callbacks get the batch as the collate function made it; those that change it must
    keep its examples and their order. Validation and testing stay as they are. Progress i/T follows
    ``module.global_step``, so it counts optimiser steps under gradient accumulation and is right after resuming. The
    module may be copied and pickled: the commentary stays with the data.

    Raises what `bind` raises, and `InputError` for a module with manual optimisation and for a loader that does not
    batch or whose class is not ``DataLoader`` itself; in training, for data without rows or a batch of another length.
    """
    if not module.automatic_optimization:
        raise InputError(
            "the module optimises by hand in its training_step: call binding.loss there instead (see this module)"
        )
    changed: Any = getattr(module, "_orig_mod", module)  # as Lightning itself takes the module out of a compiled one
    if isinstance(data, LightningDataModule):
        data = _data_with_rows(data, commentary, options)
    else:
        data = _with_rows(data, lambda dataset: bind_any(commentary, dataset, **options))
        changed.on_before_batch_transfer = partial(_on_before_batch_transfer, changed)
    changed.training_step = partial(_training_step, changed, unpack)
    return module, data


class _Loader(DataLoader[Any]):
    """A loader whose batches come beside their rows, with what the training step needs to know of them.

    Lightning makes a loader anew for distributed sampling, from attributes with the names of its arguments.
    """

    rows: Tensor  # of the batch in training

    def __init__(self, dataset: Any, *, binding: Bound, own: DataLoader[Any], **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self.binding = binding
        self.own = own


def _with_rows(loader: Any, bind: Callable[[Any], Bound]) -> _Loader:
    """Somebody's loader over the same dataset with rows."""
    if isinstance(loader, _Loader):
        loader = loader.own
    if not isinstance(loader, DataLoader):
        raise InputError(f"training data is a {type(loader).__name__}: give one DataLoader for one commentary")
    if type(loader) is not DataLoader:
        raise InputError(
            f"the loader is a {type(loader).__name__}, and what that class does to batches would be lost: put it into "
            "the collate_fn of a plain DataLoader, or call binding.loss in training_step (see this module)"
        )
    if loader.batch_sampler is None:
        raise InputError("the loader does not batch (batch_size=None), so no example can carry its row: let it batch")
    binding = bind(loader.dataset)
    dataset = rows_attached(binding, loader.dataset)
    order: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    if loader.batch_size is None:
        order = {"batch_sampler": loader.batch_sampler}
    elif not isinstance(dataset, IterableDataset):
        order["sampler"] = loader.sampler
    return _Loader(
        dataset,
        binding=binding,
        own=loader,
        **order,
        num_workers=loader.num_workers,
        collate_fn=CollateBeside(loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        in_order=loader.in_order,
    )


def _data_with_rows(data: Any, commentary: Stored | Bound, options: dict[str, Any]) -> Any:
    """A second face of a data module: one state with it, but its training batches come beside their rows."""
    data = getattr(type(data), "_commentary_own", data)
    latest: list[Bound] = []

    def bind(dataset: Any) -> Bound:
        if not latest or dataset is not latest[0].source:  # a data module may make its dataset anew with each loader
            latest[:] = [bind_any(commentary, dataset, **options)]
        return latest[0]

    class Commented(type(data)):  # type: ignore[misc]  # a subclass of whatever the caller has
        _commentary_own = data

        @property  # as a method it would be hidden by the loaders that from_datasets sets on the object
        def train_dataloader(self) -> Callable[[], _Loader]:
            return lambda: _with_rows(data.train_dataloader(), bind)

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            hooks = data if is_overridden("on_before_batch_transfer", data) else self.trainer.lightning_module
            return hooks.on_before_batch_transfer(_set_aside(self, batch), dataloader_idx)

        def __reduce__(self) -> Any:
            return _data_with_rows, (data, commentary, options)

    Commented.__name__, Commented.__qualname__ = type(data).__name__, type(data).__qualname__  # checkpoints name them
    changed = object.__new__(Commented)
    changed.__dict__ = data.__dict__
    return changed


def _set_aside(owner: Any, batch: Any) -> Any:
    """The batch that the user knows, in Lightning's first hook after loading; its rows wait for the training step."""
    if not isinstance(batch, RowsBeside):
        return batch
    owner.trainer.train_dataloader.rows = batch.rows
    return batch.batch


def _on_before_batch_transfer(module: LightningModule, batch: Any, dataloader_idx: int) -> Any:
    return type(module).on_before_batch_transfer(module, _set_aside(module, batch), dataloader_idx)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # steps differ in numbers; the forward stays compiled
def _training_step(module: LightningModule, unpack: Unpack | None, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG001  (Lightning's signature)
    loader = module.trainer.train_dataloader
    if not isinstance(loader, _Loader):
        raise InputError(
            f"the module trains under a commentary, on a {type(loader).__name__} without rows: give trainer.fit the "
            "data that commented returned"
        )
    inputs, targets = _pair(batch) if unpack is None else unpack(batch)
    if len(targets) != len(loader.rows):
        raise InputError(
            f"a batch has {len(targets)} targets for {len(loader.rows)} examples: let hooks keep a batch's examples"
        )
    progress = loader.binding.progress_at(module.global_step)
    loss = loader.binding.loss(module, inputs, targets, loader.rows, progress=progress)
    module.log("train_loss", loss.detach(), prog_bar=True)
    return loss


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise InputError(
        f"a batch is a {type(batch).__name__}, not (inputs, targets): say how to tell them (unpack=lambda batch: …)"
    )
