"""Every exception that Commentary Hub raises on purpose, as one tree.

::

    CommentaryHubError
    ├── InputError (ValueError)            what the caller handed in cannot be used
    │   ├── ShapeError                     a tensor has another shape than the contract says
    │   ├── LabelError                     a label is outside the known classes
    │   ├── SplitError                     splits overlap, or one of them is empty
    │   ├── RecipeError                    a recipe does not describe a run
    │   └── ReferenceSyntaxError           not ``owner/name`` or ``owner/name@revision``
    ├── ArtefactError (ValueError)         a folder is not a sound artefact
    │   ├── ManifestMissing (FileNotFoundError)
    │   ├── ManifestInvalid
    │   ├── FormatTooNew                   written by a newer version of this library
    │   ├── DigestMismatch                 a file is not the one that the manifest describes
    │   ├── TensorFileInvalid              not a safetensors file, truncated, or hostile
    │   ├── UnsafeFile                     a format that can carry code (pickle and its disguises)
    │   └── UnknownKind (LookupError)      no such kind is registered here
    ├── BindingError (LookupError)         a commentary does not meet this dataset
    │   ├── TooFewRows                     fewer examples found than the threshold asks
    │   ├── WrongDataset                   nothing in common with the dataset it was learned on
    │   ├── ClassesDiffer                  other classes than the commentary knows
    │   └── ConflictingRows                one key, several different weights
    ├── LearningError (RuntimeError)       a learning run cannot go on
    │   ├── Diverged (ArithmeticError)     a loss or a series left the finite numbers
    │   ├── NotDifferentiable              no gradient reaches the commentary
    │   ├── StatefulModule                 the student changes state in place
    │   ├── OutOfMemory (MemoryError)
    │   └── Interrupted                    stopped by the user; can be resumed
    ├── EvidenceError (ValueError)         an evaluation cannot be run or trusted
    ├── HubError (OSError)                 the hub did not do what was asked
    │   ├── HubUnreachable (ConnectionError)
    │   ├── HubAccessDenied (PermissionError)
    │   ├── HubNotFound (FileNotFoundError)
    │   └── HubConflict (FileExistsError)
    ├── MissingExtra (ImportError)         an optional part is not installed
    └── UsageError                         wrong use of the command line (exit code 2)

Each class is also its standard-library meaning, so ``except ValueError`` and ``except LookupError`` work as
Python programmers expect. A message says what is wrong, with which thing, and what to do about it; the facts
behind it are attributes, so that a program need not read the message.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArtefactError",
    "BindingError",
    "ClassesDiffer",
    "CommentaryHubError",
    "ConflictingRows",
    "DigestMismatch",
    "Diverged",
    "EvidenceError",
    "FormatTooNew",
    "HubAccessDenied",
    "HubConflict",
    "HubError",
    "HubNotFound",
    "HubUnreachable",
    "InputError",
    "Interrupted",
    "LabelError",
    "LearningError",
    "ManifestInvalid",
    "ManifestMissing",
    "MissingExtra",
    "NotDifferentiable",
    "OutOfMemory",
    "RecipeError",
    "ReferenceSyntaxError",
    "ShapeError",
    "SplitError",
    "StatefulModule",
    "TensorFileInvalid",
    "TooFewRows",
    "UnknownKind",
    "UnsafeFile",
    "UsageError",
    "WrongDataset",
]


class CommentaryHubError(Exception):
    """The root: ``message`` for people, ``facts`` (keyword arguments, also attributes) for programs.

    >>> error = ShapeError("weights have shape [4, 1], expected [4]: drop the last axis", tensor="weights")
    >>> str(error), error.tensor, isinstance(error, ValueError)
    ('weights have shape [4, 1], expected [4]: drop the last axis', 'weights', True)
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __str__(self) -> str:
        return self.message


class InputError(CommentaryHubError, ValueError):
    """What the caller handed in cannot be used."""


class ShapeError(InputError):
    """A tensor has another shape than the contract says."""


class LabelError(InputError):
    """A label is outside the known classes."""


class SplitError(InputError):
    """Splits overlap, or one of them is empty."""


class RecipeError(InputError):
    """A recipe does not describe a run."""


class ReferenceSyntaxError(InputError):
    """Not a reference of the form ``owner/name`` or ``owner/name@revision``."""


class ArtefactError(CommentaryHubError, ValueError):
    """A folder is not a sound artefact."""


class ManifestMissing(ArtefactError, FileNotFoundError):
    """No ``commentary.json`` where one was expected."""


class ManifestInvalid(ArtefactError):
    """``commentary.json`` does not describe a commentary."""


class FormatTooNew(ArtefactError):
    """The artefact was written by a newer version of this library."""


class DigestMismatch(ArtefactError):
    """A file is not the one that the manifest describes."""


class TensorFileInvalid(ArtefactError):
    """Not a safetensors file, a truncated one, or a hostile one."""


class UnsafeFile(ArtefactError):
    """A file in a format that can carry code."""


class UnknownKind(ArtefactError, LookupError):
    """No commentary kind of this name is registered."""


class BindingError(CommentaryHubError, LookupError):
    """A commentary does not meet this dataset."""


class TooFewRows(BindingError):
    """Fewer examples were found in the commentary than the threshold asks."""


class WrongDataset(BindingError):
    """The commentary has nothing in common with this dataset."""


class ClassesDiffer(BindingError):
    """The dataset has other classes than the commentary knows."""


class ConflictingRows(BindingError):
    """One content key carries several different weights."""


class LearningError(CommentaryHubError, RuntimeError):
    """A learning run cannot go on."""


class Diverged(LearningError, ArithmeticError):
    """A loss or a series left the finite numbers."""


class NotDifferentiable(LearningError):
    """No gradient reaches the commentary."""


class StatefulModule(LearningError):
    """The student changes state in place, so its training cannot be differentiated."""


class OutOfMemory(LearningError, MemoryError):
    """The device has not enough memory for this run."""


class Interrupted(LearningError):
    """Stopped by the user; the last good state is kept and the run can be resumed."""


class EvidenceError(CommentaryHubError, ValueError):
    """An evaluation cannot be run, or cannot be trusted."""


class HubError(CommentaryHubError, OSError):
    """The hub did not do what was asked."""


class HubUnreachable(HubError, ConnectionError):
    """The hub does not answer."""


class HubAccessDenied(HubError, PermissionError):
    """The token is missing, wrong, or not allowed to do this."""


class HubNotFound(HubError, FileNotFoundError):
    """No such repository, revision or file, or it is private."""


class HubConflict(HubError, FileExistsError):
    """It exists already, or it moved meanwhile."""


class MissingExtra(CommentaryHubError, ImportError):
    """An optional part of the library is not installed."""


class UsageError(CommentaryHubError):
    """Wrong use of the command line (exit code 2)."""
