"""Accounts as the catalogue and the pages see them."""

from commentary_hub_server.rules.membership._attempts import Attempts
from commentary_hub_server.rules.membership._membership import Membership, viewer_of

__all__ = ["Attempts", "Membership", "viewer_of"]
