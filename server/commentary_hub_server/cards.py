"""Publishing a folder of artefacts into a hub at its start."""

from __future__ import annotations

import hashlib
from pathlib import Path

from commentary_hub.manifest import MANIFEST_NAME, artefact_files, verify_folder
from commentary_hub_server.app import World
from commentary_hub_server.rules.repositories import Change, object_key, store_stream

OWNER = "cards"
_INLINE = frozenset({".md", ".json", ".toml"})


def publish(world: World, folder: Path) -> int:
    """Commit every artefact below ``folder`` to ``cards/<name>``, if it changed; return how many there are."""
    if world.directory.owner(OWNER) is None:
        world.directory.add_user(OWNER, full_name="Reference commentaries")
    count = 0
    for manifest_path in sorted(folder.glob(f"*/{MANIFEST_NAME}")):
        artefact = manifest_path.parent
        manifest = verify_folder(artefact)
        name = f"{OWNER}/{manifest.name}"
        repository = world.repositories.get("dataset", name)
        if repository is None:
            repository = world.repositories.create("dataset", OWNER, manifest.name, private=False)
        changes = []
        for file in (*artefact_files(artefact), MANIFEST_NAME):
            data = (artefact / file).read_bytes()
            if Path(file).suffix in _INLINE:
                changes.append(Change(file, data=data))
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            world.leases.hold([object_key(sha256)])
            if world.objects.size(object_key(sha256)) is None:
                store_stream(world.objects, [data], sha256, len(data))
            world.history.note_upload(repository, sha256, len(data))
            changes.append(Change(file, sha256=sha256, size_bytes=len(data)))
        world.history.commit(repository, "main", changes, title=f"Publish {manifest.name}", author=OWNER)
        count += 1
    return count
