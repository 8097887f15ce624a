"""What to install for a command whose part of the package is not there."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from commentary_hub.errors import MissingExtra

_DISTRIBUTION = "commentary-hub"
_OURS = {"", "commentary_hub", "commentary_hub_server"}
_NAMED_OTHERWISE = {  # module → distribution, where their names differ, or which brings it
    "PIL": "torchvision",
    "markdown_it": "markdown-it-py",
    "multipart": "python-multipart",
    "python_multipart": "python-multipart",
    "sklearn": "scikit-learn",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """One line that says which part brings the module that ``error`` misses; ``None`` for a module of our own."""
    module = (error.name or "").partition(".")[0]
    if module in _OURS:
        return None
    extra = _extra_of(_NAMED_OTHERWISE.get(module, module))
    advice = "install the package that it comes with" if extra is None else f"pip install '{_DISTRIBUTION}[{extra}]'"
    return MissingExtra(f"this command needs {module}, which is not installed: {advice}", module=module, extra=extra)


def _extra_of(distribution: str) -> str | None:
    """The first part of this package, ``all`` apart, that brings ``distribution``."""
    described, wanted = metadata.metadata(_DISTRIBUTION), canonicalize_name(distribution)
    extras: list[str] = described.get_all("Provides-Extra") or []
    named = [one for one in map(Requirement, described.get_all("Requires-Dist") or ())
             if canonicalize_name(one.name) == wanted]  # fmt: skip
    for extra in extras:
        if extra != "all" and any(one.marker and one.marker.evaluate({"extra": extra}) for one in named):
            return extra
    return None
