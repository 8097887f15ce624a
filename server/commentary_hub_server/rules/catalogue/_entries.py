"""One line of the catalogue: what a manifest and its evidence say, in the words that people search by."""

from __future__ import annotations

from dataclasses import dataclass

from commentary_hub.errors import ManifestInvalid
from commentary_hub.manifest import Evidence, Manifest

_MANY = 50  # students and parents that are listed of one commentary
# What can be filtered by is as long as a filter may be (an index of PostgreSQL holds no more than 2,700 bytes a line).
_LONGEST = {"dataset": 200, "method": 200, "licence": 100}
_LONGEST_STUDENT = 200


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

    Evidence about another commentary (by digests) says nothing about it and is left out. Raises `ManifestInvalid` for
    what cannot be listed: a text by which it would be found that is too long, or holds a NUL.
    """
    if evidence is not None and not evidence.describes(manifest):
        evidence = None
    low, mean, high = _smallest_gain(evidence)
    students = evidence.protocol.students if evidence else manifest.recipe.students if manifest.recipe else ()
    entry = Entry(
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
    _check(entry)
    return entry


def _check(entry: Entry) -> None:
    for name, longest in _LONGEST.items():
        if len(getattr(entry, name) or "") > longest:
            raise ManifestInvalid(f"{name} has more than {longest} characters: give it a shorter one")
    if any(len(student) > _LONGEST_STUDENT for student in entry.students):
        raise ManifestInvalid(f"a student's name has more than {_LONGEST_STUDENT} characters: give it a shorter one")
    texts = (entry.dataset, entry.method or "", entry.licence or "", entry.description, *entry.students, *entry.parents)
    if any("\0" in text for text in texts):
        raise ManifestInvalid("a text of the manifest holds a NUL character: take it out")


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
