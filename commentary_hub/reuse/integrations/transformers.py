"""Commentaries in a Hugging Face ``Trainer``, in one changed line.

::

    trainer = commented(Trainer, stored)(model=model, args=args, train_dataset=train_set)
    #         was: Trainer(...)
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor

from commentary_hub.errors import InputError, MissingExtra
from commentary_hub.reuse._any_dataset import Bound, Stored, bind_any, rows_attached
from commentary_hub.reuse._samples import ROW, CarryRows

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

    In training the loss is the binding's: logits against ``labels`` with the binding's criterion
    (`commentary_hub.commentaries.token_cross_entropy` and `causal_cross_entropy` serve models with one label for each
    token). Columns that the model does not know are removed as ever. Progress i/T follows ``state.global_step``, so it
    counts optimiser steps under gradient accumulation and is right after resuming; each micro-batch is normalised by
    itself. Masks and blends change the model's main input, which must be numbers (``pixel_values``), not token ids.

    Raises what `bind` raises when the trainer is built, and `InputError` for a dataset without rows,
    ``compute_loss_func`` or label smoothing, which the commentary's loss would silently replace.
    """

    class Commented(trainer_class):  # type: ignore[misc, valid-type]  # a subclass of whatever the caller has
        train_dataset: Any
        data_collator: Any

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            if self.compute_loss_func is not None or self.label_smoother is not None:
                raise InputError(
                    "compute_loss_func and label smoothing would be replaced by the commentary's loss: "
                    "leave them out and give bind a criterion= instead"
                )
            self.binding = bind_any(commentary, self.train_dataset, **options)
            self.train_dataset = rows_attached(self.binding, self.train_dataset)
            self.model_accepts_loss_kwargs = False  # the loss is a mean over the micro-batch, which Trainer divides

        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            if ROW not in self._signature_columns:
                self._signature_columns.append(ROW)

        def get_train_dataloader(self) -> Any:
            own = self.data_collator
            self.data_collator = CarryRows(own)
            try:
                return super().get_train_dataloader()
            finally:
                self.data_collator = own

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **settings: Any) -> Any:  # noqa: FBT001, FBT002  (Trainer's signature)
            rest = {name: value for name, value in inputs.items() if name != ROW}
            if ROW not in inputs or not model.training:
                return super().compute_loss(model, rest, return_outputs=return_outputs, **settings)
            progress = self.binding.progress_at(self.state.global_step)
            student = _Forward(model, self.accelerator.unwrap_model(model), rest)
            loss = self.binding.loss(student, student.inputs, student.labels, inputs[ROW], progress=progress)
            return (loss, student.outputs) if return_outputs else loss

    Commented.__name__ = Commented.__qualname__ = f"Commented{trainer_class.__name__}"
    return Commented


class _Forward:
    """A model of keyword arguments as a function of its main input alone; keeps what the model put out."""

    def __init__(self, model: Any, unwrapped: Any, inputs: dict[str, Any]) -> None:
        if "labels" not in inputs:
            raise InputError(f"a batch has {', '.join(inputs)}, but no labels: name the target column label or labels")
        self.labels: Tensor = inputs["labels"]
        self.outputs: Any = None
        self._model = model
        self._rest = {name: value for name, value in inputs.items() if name != "labels"}
        main = getattr(unwrapped, "main_input_name", None)
        self._main = main if main in self._rest else next(iter(self._rest))
        self.inputs: Tensor = self._rest[self._main]

    def __call__(self, inputs: Tensor) -> Tensor:
        self.outputs = self._model(**{**self._rest, self._main: inputs})
        logits = self.outputs["logits"] if isinstance(self.outputs, dict) else self.outputs
        first: Tensor = logits[0] if isinstance(logits, tuple) else logits
        return first
