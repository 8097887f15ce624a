"""The Xet protocol's doors: token exchange, chunk lookup, uploads, reconstruction."""

from commentary_hub_server.routes.xet._routes import build_router

__all__ = ["build_router"]
