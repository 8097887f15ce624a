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
from typing import Any, TypeVar, overload

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from commentary_hub.errors import InputError, MissingExtra
from commentary_hub.reuse._any_dataset import Bound, Stored, bind_any, rows_attached
from commentary_hub.reuse._samples import CarryRows, parted

try:
    from lightning.pytorch import LightningDataModule, LightningModule
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
    """The module and its training data, changed in place so that ``trainer.fit`` trains under a commentary.

    ``data`` is a ``DataLoader`` or a ``LightningDataModule``; stored commentaries are bound to the loader's dataset
    with the ``options`` of `bind` (for a data module when it makes its loader), a binding must be that dataset's.
    Sampler, workers and collate function stay the loader's own.

    ``module.training_step`` is replaced: its loss is the binding's, of ``module(inputs)`` against the targets, logged
    as ``train_loss``. ``unpack`` tells (inputs, targets) of a batch that is no pair. Validation and testing stay as
    they are. Progress i/T follows ``module.global_step``, so it counts optimiser steps under gradient accumulation and
    is right after resuming.

    Raises what `bind` raises, and `InputError` for a module with manual optimisation.
    """
    if not module.automatic_optimization:
        raise InputError(
            "the module optimises by hand in its training_step: call binding.loss there instead (see this module)"
        )
    bound: list[Bound] = []

    def with_rows(loader: Any) -> DataLoader[Any]:
        if not isinstance(loader, DataLoader):
            raise InputError(f"training data is a {type(loader).__name__}: give one DataLoader for one commentary")
        fresh = not bound or (not isinstance(commentary, Bound) and loader.dataset is not bound[0].source)
        if fresh:  # a data module may make its dataset anew with each loader
            bound[:] = [bind_any(commentary, loader.dataset, **options)]
        return _reloaded(loader, rows_attached(bound[0], loader.dataset))

    def training_step(batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG001  (Lightning's signature)
        binding = bound[0]
        rest, rows = parted(batch)
        inputs, targets = _pair(rest) if unpack is None else unpack(rest)
        progress = binding.progress_at(module.global_step)
        loss = binding.loss(module, inputs, targets, rows, progress=progress)
        module.log("train_loss", loss.detach(), prog_bar=True)
        return loss

    changed: Any = module
    if isinstance(data, DataLoader):
        loader = with_rows(data)
        changed.training_step = training_step
        return module, loader
    own_loader = data.train_dataloader
    data.train_dataloader = lambda: with_rows(own_loader())
    changed.training_step = training_step
    return module, data


def _reloaded(loader: DataLoader[Any], dataset: Any) -> DataLoader[Any]:
    """The same loader over another dataset of the same length; its batches gain their rows."""
    order: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    if loader.batch_size is None and loader.batch_sampler is None:
        raise InputError("the loader does not batch (batch_size=None), so no example can carry its row: let it batch")
    if loader.batch_size is None:
        order = {"batch_sampler": loader.batch_sampler}
    elif not isinstance(dataset, IterableDataset):
        order["sampler"] = loader.sampler
    return DataLoader(
        dataset,
        **order,
        num_workers=loader.num_workers,
        collate_fn=CarryRows(loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    raise InputError(
        f"a batch is a {type(batch).__name__}, not (inputs, targets): say how to tell them (unpack=lambda batch: …)"
    )
