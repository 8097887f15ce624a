"""Uploads in progress: received to a spool, checked, and only then visible."""

from commentary_hub_server.rules.uploads._flow import hand_on
from commentary_hub_server.rules.uploads._uploads import Uploads

__all__ = ["Uploads", "hand_on"]
