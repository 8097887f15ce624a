"""The machine's description of an artefact: ``commentary.json``, format version 1.

What this module decides stays decided: the JSON Schema in ``schema/commentary-1.json`` is generated from it and
committed, and a committed sample artefact guards that version 1 can be read for ever.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from commentary_hub.errors import FormatTooNew, ManifestInvalid
from commentary_hub.manifest._digests import FileDigest

FORMAT_VERSION = 1
MANIFEST_NAME = "commentary.json"
CARD_NAME = "README.md"
RECIPE_NAME = "recipe.toml"
EVIDENCE_NAME = "evidence.json"
TENSORS_NAME = "commentary.safetensors"
TENSORS_INDEX_NAME = "commentary.safetensors.index.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

# The names that every reader of a tensor file may rely on.
KEYS_TENSOR = "rows.keys"
TARGETS_TENSOR = "rows.targets"
VALIDATION_TENSOR = "validation.keys"
STATE_PREFIX = "commentary."
STATISTICS_PREFIX = "statistics."

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
Name = Annotated[str, Field(pattern=NAME)]
KindName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, Field(max_length=4096)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{16,128}$")]
Count = Annotated[int, Field(ge=0)]
JsonValue = Any


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TensorInfo(_Part):
    """Shape and dtype of one stored tensor (dtype in safetensors' spelling: ``F32``, ``U8`` …)."""

    shape: Annotated[tuple[Count, ...], Field(max_length=16)]
    dtype: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,15}$")]


class Iterations(_Part):
    """Where over a training run the commentary was learned.

    ``steps`` T and ``batch_size`` of the student's training; progress is i/T. ``outside`` says what holds for i > T:
    ``hold`` keeps the value of progress 1.
    """

    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    outside: Literal["hold"] = "hold"


class KeyScheme(_Part):
    """How the rows' content keys were computed.

    ``form`` names the canonical form of an example (see ``commentary_hub.data``). With ``salted`` the keys are
    keyed hashes: whoever binds needs the salt, which is never stored in the artefact; ``salt_check`` lets a
    reader tell a wrong salt from a wrong dataset.
    """

    algorithm: Literal["blake2b-128"] = "blake2b-128"
    form: Literal["image", "text", "numeric", "none"]
    salted: bool = False
    salt_check: Hex | None = None


class DatasetIdentity(_Part):
    """Where a dataset comes from, as far as it is known. ``id`` is a Hub id such as ``ylecun/mnist``."""

    id: Text
    revision: Text | None = None
    config: Text | None = None
    split: Text | None = None


class DatasetBinding(_Part):
    """How a commentary's rows meet a dataset's examples.

    ``fingerprint`` is the digest over the ordered content keys of the dataset that was learned on; only where a
    dataset has the same one may rows be taken by position. ``rows`` counts the examples of that dataset,
    ``validation_rows`` those that taught the commentary (their keys are stored, so that leakage can be seen).
    """

    identity: DatasetIdentity
    fingerprint: Hex | None = None
    rows: Count
    validation_rows: Count = 0
    key: KeyScheme
    classes: tuple[Text, ...] | None = None


class RecipeSummary(_Part):
    """How it was learned, short; ``recipe.toml`` holds the whole."""

    method: Text
    inner_optimiser: Text
    outer_optimiser: Text
    inner_steps: Count
    outer_steps: Count
    students: tuple[Text, ...]
    seeds: tuple[int, ...]


class Cost(_Part):
    """What learning took: wall seconds, device, student steps (all inner steps of all outer steps)."""

    seconds: Annotated[float, Field(ge=0)]
    device: Text
    inner_steps: Count


class Parent(_Part):
    """An artefact that this one was made from, or a foreign file it was imported from."""

    reference: Text
    digest: Hex | None = None
    origin: Text | None = None


class Status(_Part):
    """``current``, or ``deprecated`` with the reason."""

    state: Literal["current", "deprecated"] = "current"
    reason: Text | None = None

    @model_validator(mode="after")
    def _reason_given(self) -> Status:
        if self.state == "deprecated" and not self.reason:
            raise ValueError("a deprecated commentary needs a reason")
        return self


class Manifest(_Part):
    """One commentary, described for machines.

    ``kind`` with ``parameters`` rebuild the module, ``tensors`` are its arrays. ``value_range`` bounds what the
    commentary puts out; ``loss_reduction`` says how the weighted losses of a batch become one number (``sum``,
    ``mean`` over the batch, ``weight_mean`` = divided by the detached sum of the weights). ``batch_norm`` is the
    mode that normalisation layers inside the commentary run in when it is reused. ``files`` holds the digest of
    every other file in the folder.
    """

    format: Literal["commentary"] = "commentary"
    format_version: Literal[1] = 1
    name: Name
    kind: KindName
    parameters: dict[str, JsonValue]
    tensors: Annotated[dict[Text, TensorInfo], Field(max_length=100_000)]
    value_range: tuple[float, float] | None = None
    loss_reduction: Literal["sum", "mean", "weight_mean"]
    iterations: Iterations | None = None
    batch_norm: Literal["train", "eval", "none"] = "none"
    dataset: DatasetBinding
    recipe: RecipeSummary | None = None
    versions: dict[Text, Text]
    cost: Cost | None = None
    parents: tuple[Parent, ...] = ()
    status: Status = Status()
    licence: Text | None = None
    description: Text = ""
    files: Annotated[dict[Text, FileDigest], Field(max_length=10_000)] = {}

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = MANIFEST_NAME) -> Manifest:
        """Read a manifest; ``where`` names it in messages.

        Raises `FormatTooNew` for a higher format version (checked before anything else is read) and
        `ManifestInvalid` for everything else that is not version 1.
        """
        if len(text) > MAX_MANIFEST_BYTES:
            raise ManifestInvalid(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes, no manifest is", where=where)
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestInvalid(f"{where} is not JSON: {error}", where=where) from None
        if not isinstance(raw, dict) or raw.get("format") != "commentary":
            raise ManifestInvalid(f'{where} does not say "format": "commentary"', where=where)
        version = raw.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FormatTooNew(
                f"{where} has format version {version}, this library reads up to {FORMAT_VERSION}: "
                "upgrade commentary-hub",
                where=where,
                version=version,
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "manifest"
            raise ManifestInvalid(f"{where}: {place}: {first['msg']}", where=where, place=place) from None

    def to_json(self) -> str:
        """The manifest as indented JSON with sorted keys: equal manifests are equal bytes."""
        data = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @property
    def settings_digest(self) -> str:
        """SHA-256 (hex) of what makes a function of the tensors: change one setting and it is another commentary."""
        said = (self.kind, self.parameters, self.loss_reduction, self.batch_norm)
        steps = None if self.iterations is None else self.iterations.model_dump(mode="json")
        return hashlib.sha256(json.dumps([*said, steps], sort_keys=True).encode()).hexdigest()

    @property
    def tensor_files(self) -> tuple[str, ...]:
        """The names of the tensor files, sorted."""
        return tuple(sorted(name for name in self.files if name.endswith(".safetensors")))
