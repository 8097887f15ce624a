"""Two lines to use a commentary, for each way of training."""

from __future__ import annotations

from commentary_hub_server.rules.catalogue import Entry


def snippets(entry: Entry) -> list[tuple[str, str, str]]:
    """(key, title, code) for the commentary at its current revision, so that a copied line stays what it was."""
    reference = f"{entry.repo_id}@{entry.revision}"
    return [
        ("cli", "Command line", f"commentary-hub pull {entry.repo_id}"),
        ("pytorch", "PyTorch", f'import commentary_hub\n\ncommentary = commentary_hub.load("{reference}")'),
    ]
