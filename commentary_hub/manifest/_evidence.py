"""Evidence that a commentary helps: ``evidence.json``, and the rule that turns numbers into a verdict."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from commentary_hub.errors import EvidenceError, FormatTooNew
from commentary_hub.manifest._digests import tensor_digest
from commentary_hub.manifest._manifest import Manifest

EVIDENCE_VERSION = 1
MAX_EVIDENCE_BYTES = 4 * 1024 * 1024

Fraction = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]  # of two fractions
Interval = tuple[float, float]
Outcome = Literal["helps", "no_difference", "hurts"]
Text = Annotated[str, Field(max_length=4096)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measurement(_Part):
    """One arm (the commentary or a control) with one student architecture.

    Accuracies are fractions; ``runs`` counts paired training runs; ``ci95`` are bootstrap intervals; the difference
    is commentary minus this arm, paired run by run (``None`` for the commentary itself).
    ``steps_to_target`` is the median over runs that reached the target, ``reached_target`` their fraction.
    """

    student: Text
    control: Text
    runs: Annotated[int, Field(ge=1)]
    accuracy_mean: Fraction
    accuracy_ci95: tuple[Fraction, Fraction]
    difference_mean: Difference | None = None
    difference_ci95: tuple[Difference, Difference] | None = None
    learning_rate: float | None = None
    steps_to_target: float | None = None
    reached_target: Fraction | None = None
    curve_area_mean: float | None = None
    curve_area_difference_ci95: Interval | None = None
    per_class_difference: tuple[Difference, ...] | None = None


class Verdict(_Part):
    """The commentary against one control, for one student, in one word and one sentence."""

    student: Text
    control: Text
    outcome: Outcome
    sentence: Text


class Protocol(_Part):
    """What was run: enough to run it again."""

    students: tuple[Text, ...]
    controls: tuple[Text, ...]
    seeds: Annotated[int, Field(ge=1)]
    learning_runs: Annotated[int, Field(ge=1)] = 1
    splits: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rates: tuple[float, ...]
    selection: Text
    target_accuracy: Fraction | None = None
    rule: Text
    parameters: dict[str, Any] = {}


class BreakEven(_Part):
    """How many reuses pay for the learning: seconds of learning over seconds saved by one reuse (``None``: never)."""

    learning_seconds: float
    saved_seconds_per_reuse: float
    reuses: float | None = None


class Verification(_Part):
    """Somebody ran the recorded evaluation again. ``agrees``: every measured mean lay within the recorded interval."""

    account: Text
    date: Text
    hardware: Text
    agrees: bool
    detail: Text = ""
    tensor_digest: Text


class Evidence(_Part):
    """All numbers of one evaluation with their verdicts, bound to a commentary by ``tensor_digest``.

    Its settings (kind, parameters, how losses are reduced) are bound by ``settings_digest``, which evidence from before
    it was there does not have.
    """

    format: Literal["commentary-evidence"] = "commentary-evidence"
    format_version: Literal[1] = 1
    tensor_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    settings_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    dataset: Text
    protocol: Protocol
    measurements: tuple[Measurement, ...]
    verdicts: tuple[Verdict, ...]
    outcome: Outcome
    summary: Text
    detection: dict[str, float] = {}
    break_even: BreakEven | None = None
    hardware: Text
    versions: dict[Text, Text]
    cost_seconds: Annotated[float, Field(ge=0)]
    verifications: tuple[Verification, ...] = ()

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "evidence.json") -> Evidence:
        """Read evidence; raises `FormatTooNew` or `EvidenceError` naming the first wrong place."""
        if len(text) > MAX_EVIDENCE_BYTES:
            raise EvidenceError(f"{where} is larger than {MAX_EVIDENCE_BYTES} bytes, no evidence is", where=where)
        try:
            version = json.loads(text).get("format_version")
        except (ValueError, AttributeError, RecursionError) as error:
            raise EvidenceError(f"{where} is not a JSON object: {error}", where=where) from None
        if isinstance(version, int) and version > EVIDENCE_VERSION:
            raise FormatTooNew(f"{where} has format version {version}: upgrade commentary-hub", where=where)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "evidence"
            raise EvidenceError(f"{where}: {place}: {first['msg']}", where=where, place=place) from None

    def describes(self, manifest: Manifest) -> bool:
        """Whether it was measured with the very commentary of ``manifest``: its tensors and its settings."""
        same = self.settings_digest in {None, manifest.settings_digest}
        return same and self.tensor_digest == tensor_digest(manifest.files)

    def is_verified(self, author: str, by: str | None = None) -> bool:
        """Whether somebody else than ``author`` ran it again, with these very tensors, and agrees.

        With ``by`` only this account's record counts: the one that is known to have written it.
        """
        return any(
            one.agrees
            and one.tensor_digest == self.tensor_digest
            and one.account.casefold() != author.casefold()
            and (by is None or one.account.casefold() == by.casefold())
            for one in self.verifications
        )

    def to_json(self) -> str:
        """The evidence as indented JSON with sorted keys."""
        data = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def judge(difference_ci95: Interval) -> Outcome:
    """The stated rule: the paired 95 % interval of *commentary minus control* lies above zero, holds it, or lies below.

    >>> judge((0.01, 0.05)), judge((-0.01, 0.02)), judge((-0.04, -0.01))
    ('helps', 'no_difference', 'hurts')
    """
    low, high = difference_ci95
    if low > 0:
        return "helps"
    return "hurts" if high < 0 else "no_difference"
