"""An artefact is a folder on disk: tensors, manifest, card, and what was measured with them."""

from commentary_hub.artefact._header import Source
from commentary_hub.artefact._load import StoredCommentary, load
from commentary_hub.artefact._part import load_part
from commentary_hub.artefact._rows import Rows
from commentary_hub.artefact._save import attach, library_versions, save

__all__ = ["Rows", "Source", "StoredCommentary", "attach", "library_versions", "load", "load_part", "save"]
