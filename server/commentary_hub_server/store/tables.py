"""The store's own table."""

from commentary_hub_server.store._leases import leases

__all__ = ["leases"]
