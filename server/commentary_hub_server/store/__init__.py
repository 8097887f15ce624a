"""Where the hub keeps things: objects by name (a local folder or S3) and one SQL database."""

from commentary_hub_server.store._database import (
    connect,
    in_turn,
    metadata,
    migrate,
    one_at_a_time,
    private_file,
    taken,
    upsert,
)
from commentary_hub_server.store._leases import Leases
from commentary_hub_server.store._objects import LocalObjects, Objects, S3Objects, Spool, open_objects

__all__ = [
    "Leases",
    "LocalObjects",
    "Objects",
    "S3Objects",
    "Spool",
    "connect",
    "in_turn",
    "metadata",
    "migrate",
    "one_at_a_time",
    "open_objects",
    "private_file",
    "taken",
    "upsert",
]
