"""The pages: server-rendered, readable without JavaScript, under a strict content security policy."""

from commentary_hub_server.routes.pages._router import build_router

__all__ = ["build_router"]
