"""Repositories: names, commits, refs, files. Merkle trees below immutable revisions; no web framework inside."""

from commentary_hub_server.rules.repositories._contents import XetFiles, is_blob, object_key, store_stream
from commentary_hub_server.rules.repositories._history import History
from commentary_hub_server.rules.repositories._holdings import LargeFile
from commentary_hub_server.rules.repositories._ignored import IGNORE_NAME, MAX_IGNORE_BYTES, ignored
from commentary_hub_server.rules.repositories._listing import Indexer
from commentary_hub_server.rules.repositories._paths import SHORT, VERBS, check_path
from commentary_hub_server.rules.repositories._quota import Quota
from commentary_hub_server.rules.repositories._records import Change, Commit, Filters, Listing, Opened, Repository
from commentary_hub_server.rules.repositories._repositories import KINDS, SORTS, Repositories
from commentary_hub_server.rules.repositories._revisions import full_branch
from commentary_hub_server.rules.repositories._shelf import RepositoryShelf
from commentary_hub_server.rules.repositories._trees import File, Folder, Node, read_folder, tree_id

__all__ = [
    "IGNORE_NAME",
    "KINDS",
    "MAX_IGNORE_BYTES",
    "SHORT",
    "SORTS",
    "VERBS",
    "Change",
    "Commit",
    "File",
    "Filters",
    "Folder",
    "History",
    "Indexer",
    "LargeFile",
    "Listing",
    "Node",
    "Opened",
    "Quota",
    "Repositories",
    "Repository",
    "RepositoryShelf",
    "XetFiles",
    "check_path",
    "full_branch",
    "ignored",
    "is_blob",
    "object_key",
    "read_folder",
    "store_stream",
    "tree_id",
]
