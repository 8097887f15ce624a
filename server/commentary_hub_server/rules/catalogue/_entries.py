"""One line of the catalogue: what a manifest and its evidence say, in the words that people search by."""

from __future__ import annotations

from dataclasses import dataclass

from commentary_hub.manifest import Evidence, Manifest, tensor_digest

_MANY = 50  # students and parents that are listed of one commentary


@dataclass(frozen=True, slots=True)
class Entry:
    """A commentary as the catalogue lists it.

    ``gain`` is the measured difference of accuracy (a fraction) to the control that did best, the smallest claim
    that the evidence supports, with its 95 % interval; ``None`` without evidence. ``folder`` is empty for an artefact
    at the root of its repository. ``parents`` are the references (or foreign origins) that it was made from.
    ``updated_at`` is in seconds since the epoch. ``verified`` is a claim of the evidence until whoever lists it has
    compared the accounts with those that committed it.
    """

    repo_id: str
    revision: str
    private: bool
    updated_at: float
    name: str
    kind: str
    dataset: str
    folder: str = ""
    method: str | None = None
    licence: str | None = None
    students: tuple[str, ...] = ()
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    outcome: str | None = None
    verified: bool = False
    deprecated: bool = False
    description: str = ""
    card: str = ""
    parents: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``owner/name``, followed by the folder where it lies inside a dataset's own repository."""
        return f"{self.repo_id}/{self.folder}" if self.folder else self.repo_id

    @property
    def owner(self) -> str:
        """The namespace of the repository."""
        return self.repo_id.partition("/")[0]


def describe(
    repo_id: str,
    revision: str,
    manifest: Manifest,
    *,
    private: bool,
    updated_at: float,
    evidence: Evidence | None = None,
    card: str = "",
    folder: str = "",
) -> Entry:
    """The catalogue's line for a manifest.

    Evidence about other tensors (by digest) says nothing about these and is left out.
    """
    if evidence is not None and evidence.tensor_digest != tensor_digest(manifest.files):
        evidence = None
    low, mean, high = _smallest_gain(evidence)
    students = evidence.protocol.students if evidence else manifest.recipe.students if manifest.recipe else ()
    return Entry(
        repo_id=repo_id,
        revision=revision,
        private=private,
        updated_at=updated_at,
        name=manifest.name,
        kind=manifest.kind,
        dataset=manifest.dataset.identity.id,
        folder=folder,
        method=manifest.recipe.method if manifest.recipe else None,
        licence=manifest.licence,
        students=tuple(dict.fromkeys(students))[:_MANY],
        gain=mean,
        gain_low=low,
        gain_high=high,
        outcome=evidence.outcome if evidence else None,
        verified=evidence is not None and evidence.is_verified(repo_id.partition("/")[0]),
        deprecated=manifest.status.state == "deprecated",
        description=manifest.description,
        card=card,
        parents=tuple(dict.fromkeys(parent.reference for parent in manifest.parents))[:_MANY],
    )


def _smallest_gain(evidence: Evidence | None) -> tuple[float | None, float | None, float | None]:
    """(low, mean, high) of the comparison with the smallest mean: a catalogue ranks by the weakest claim."""
    compared = [
        (line.difference_mean, line.difference_ci95)
        for line in (evidence.measurements if evidence else ())
        if line.difference_mean is not None and line.difference_ci95 is not None
    ]
    if not compared:
        return None, None, None
    mean, (low, high) = min(compared)
    return low, mean, high
