"""Commentaries in a Hugging Face ``Trainer``, in one changed line.

::

    trainer = commented(Trainer, stored)(model=model, args=args, train_dataset=train_set)
    #         was: Trainer(...)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from commentary_hub.data import ROW
from commentary_hub.errors import InputError, MissingExtra
from commentary_hub.reuse._any_dataset import Bound, Stored, bind_any, rows_attached
from commentary_hub.reuse._application import logits_of
from commentary_hub.reuse._samples import CarryRows

try:
    from transformers import Trainer
except ImportError as error:
    raise MissingExtra('transformers is not installed: pip install "commentary-hub[integrations]"') from error

AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)

__all__ = ["commented"]


def commented(trainer_class: type[AnyTrainer], commentary: Stored | Bound, **options: Any) -> type[AnyTrainer]:
    """A ``Trainer`` class (or subclass of it) that trains under a commentary; evaluation and prediction stay as is.

    ``commentary`` is one or more stored commentaries, which are bound to the trainer's ``train_dataset`` with the
    ``options`` of `bind`; or a binding, where the dataset no longer holds its raw examples when it reaches the trainer
    (tokenised text): then ``train_dataset`` must have been made from ``binding.dataset``, whose column
    ``commentary_row`` stays with its example.

    In training the loss is the binding's: logits against the labels (``label_names``) with the binding's criterion
    (`commentary_hub.commentaries.token_cross_entropy` and `causal_cross_entropy` serve models with one label for each
    token). Columns that the model does not know are removed as ever. Progress i/T follows ``state.global_step``, so it
    counts optimiser steps under gradient accumulation and is right after resuming; each micro-batch is normalised by
    itself. Masks and blends change the model's main input, which must be numbers (``pixel_values``), not token ids. A
    trainer without a ``train_dataset`` evaluates and predicts.

    Raises `InputError` for a class with a ``compute_loss`` of its own, and when the trainer is built what `bind`
    raises, and `InputError` for a dataset without rows, ``compute_loss_func`` or label smoothing: the commentary's loss
    would silently replace them.
    """
    if trainer_class.compute_loss is not Trainer.compute_loss:
        raise InputError(
            f"{trainer_class.__name__} has a compute_loss of its own, which the commentary's loss would replace: leave "
            "it out, and give bind a loss for each example instead (criterion=)"
        )
    members = {"_commentary": commentary, "_bind_options": options}
    return type(f"Commented{trainer_class.__name__}", (_Commented, trainer_class), members)


class _Commented(Trainer):
    """What `commented` puts before a trainer's own methods."""

    _commentary: Stored | Bound
    _bind_options: Mapping[str, Any]
    train_dataset: Any
    data_collator: Any
    model_accepts_loss_kwargs: bool
    _signature_columns: Any

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.compute_loss_func is not None or self.label_smoother is not None:
            raise InputError(
                "compute_loss_func and label smoothing would be replaced by the commentary's loss: "
                "leave them out and give bind a criterion= instead"
            )
        self._commented_step = -1
        if self.train_dataset is not None:
            self.binding = bind_any(self._commentary, self.train_dataset, **self._bind_options)
            self.train_dataset = rows_attached(self.binding, self.train_dataset)

    def get_train_dataloader(self) -> Any:
        self._set_signature_columns_if_needed()
        collate, columns = self.data_collator, self._signature_columns
        self.data_collator = CarryRows(collate)
        self._signature_columns = None if columns is None else [*columns, ROW]
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator, self._signature_columns = collate, columns

    def training_step(self, *args: Any, **settings: Any) -> Any:
        # The commentary's loss is a mean over the micro-batch, which Trainer is to divide, whatever the model's is.
        own, self.model_accepts_loss_kwargs = self.model_accepts_loss_kwargs, False
        try:
            return super().training_step(*args, **settings)
        finally:
            self.model_accepts_loss_kwargs = own

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **settings: Any) -> Any:
        return super().prediction_step(model, _without_rows(inputs), *args, **settings)

    def compute_loss(  # type: ignore[override]  # whatever else this version of Trainer hands over goes through
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,  # noqa: FBT001, FBT002  (Trainer's signature)
        **settings: Any,
    ) -> Any:
        if not model.training:
            return super().compute_loss(model, _without_rows(inputs), return_outputs=return_outputs, **settings)
        if ROW not in inputs:
            raise InputError(
                f"a training batch has {', '.join(inputs)}, but no {ROW}: let the collate function keep that "
                "entry of its samples (get_train_dataloader is the trainer's own?)"
            )
        step = self.state.global_step
        if step != self._commented_step:  # what a step draws follows its number, also after resuming
            self.binding.step_count = step * self.args.gradient_accumulation_steps
            self._commented_step = step
        student = _Forward(model, self.accelerator.unwrap_model(model), _without_rows(inputs), self.label_names)
        progress = self.binding.progress_at(step)
        loss = self.binding.loss(student, student.inputs, student.labels, inputs[ROW], progress=progress)
        return (loss, student.outputs) if return_outputs else loss


def _without_rows(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name != ROW}


class _Forward:
    """A model of keyword arguments as a function of its main input alone; keeps what the model put out.

    Labels are kept from the model, which would work out its own loss, unless it cannot do without them.
    """

    def __init__(self, model: Any, unwrapped: Any, inputs: dict[str, Any], label_names: Sequence[str]) -> None:
        named = [name for name in label_names if name in inputs] or ["labels"]
        if len(named) > 1 or named[0] not in inputs:
            raise InputError(
                f"a batch has {', '.join(inputs)}, and {'several' if len(named) > 1 else 'no'} labels: name the one "
                "target column label or labels, or say which it is (TrainingArguments(label_names=[…]))"
            )
        self.labels: Tensor = inputs[named[0]]
        self.outputs: Any = None
        self._model = model
        self._rest = {name: value for name, value in inputs.items() if name != named[0]}
        main = getattr(unwrapped, "main_input_name", None)
        self._main = main if main in self._rest else next(iter(self._rest))
        self.inputs: Tensor = self._rest[self._main]
        self._rest |= _needed_labels(unwrapped, named[0], self.labels, self._rest)

    def __call__(self, inputs: Tensor) -> Tensor:
        self.outputs = self._model(**{**self._rest, self._main: inputs})
        return logits_of(self.outputs[0] if isinstance(self.outputs, tuple) else self.outputs)


def _needed_labels(model: Any, name: str, labels: Tensor, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a model must know of the labels: decoders what comes before each token, some models all of them."""
    parameter = inspect.signature(model.forward).parameters.get(name)
    if parameter is not None and parameter.default is inspect.Parameter.empty:
        return {name: labels}
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None or {"decoder_input_ids", "decoder_inputs_embeds"} & given.keys():
        return {}
    return {"decoder_input_ids": shift(labels=labels)}
