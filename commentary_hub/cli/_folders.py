"""Where an artefact goes: never silently over another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commentary_hub.errors import ArtefactError, UsageError
from commentary_hub.manifest import MANIFEST_NAME, read_manifest

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a commentary that the folder holds, and its evidence.")
]


def refuse_to_replace(folder: Path) -> None:
    """Raise `UsageError` where there is a commentary already: its evidence may have taken hours."""
    if not (folder / MANIFEST_NAME).is_file():
        return
    try:
        name = read_manifest(folder).name
    except ArtefactError:
        name = f"a {MANIFEST_NAME}"
    raise UsageError(f"{folder}/ already holds {name}: choose another --out, or pass --overwrite")
