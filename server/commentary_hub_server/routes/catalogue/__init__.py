"""The catalogue over REST."""

from commentary_hub_server.routes.catalogue._router import build_router

__all__ = ["build_router"]
