"""The Hugging Face Hub protocol, as its newest client speaks it."""

from commentary_hub_server.routes.hub._addresses import plain, raw_path_middleware
from commentary_hub_server.routes.hub._doors import Doors, Refused, http_refusal, refusal, unstorable
from commentary_hub_server.routes.hub._router import build_router

__all__ = [
    "Doors",
    "Refused",
    "build_router",
    "http_refusal",
    "plain",
    "raw_path_middleware",
    "refusal",
    "unstorable",
]
