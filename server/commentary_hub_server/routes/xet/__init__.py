"""The Xet protocol's doors: token exchange, chunk lookup, uploads, reconstruction."""

from commentary_hub_server.routes.xet._routes import Allowed, build_router

__all__ = ["Allowed", "build_router"]
