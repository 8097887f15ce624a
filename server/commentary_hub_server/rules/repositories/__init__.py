"""Repositories: names, commits, refs, files. Merkle trees below immutable revisions; no web framework inside."""

from commentary_hub_server.rules.repositories._contents import XetFiles, object_key, store_stream
from commentary_hub_server.rules.repositories._history import History, full_branch
from commentary_hub_server.rules.repositories._listing import Indexer
from commentary_hub_server.rules.repositories._paths import check_path
from commentary_hub_server.rules.repositories._records import Change, Commit, Filters, Listing, Opened, Repository
from commentary_hub_server.rules.repositories._repositories import KINDS, Repositories
from commentary_hub_server.rules.repositories._shelf import RepositoryShelf
from commentary_hub_server.rules.repositories._trees import File, Folder, Node

__all__ = [
    "KINDS",
    "Change",
    "Commit",
    "File",
    "Filters",
    "Folder",
    "History",
    "Indexer",
    "Listing",
    "Node",
    "Opened",
    "Repositories",
    "Repository",
    "RepositoryShelf",
    "XetFiles",
    "check_path",
    "full_branch",
    "object_key",
    "store_stream",
]
