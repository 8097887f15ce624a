"""The REST interface as a page: the catalogue's part of the OpenAPI description, without scripts of other hosts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from commentary_hub_server.routes.pages._site import Site

_TAG = "catalogue"


@dataclass(frozen=True, slots=True)
class Asked:
    """A parameter in words."""

    name: str
    kind: str
    text: str
    example: str
    default: str
    required: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One address with what it takes and an answer to look at."""

    path: str
    summary: str
    text: str
    parameters: tuple[Asked, ...]
    example: str


def add_interface(router: APIRouter, site: Site) -> None:
    """Add the page."""

    @router.get("/docs")
    def docs() -> Response:
        return RedirectResponse("/rest")

    @router.get("/rest")
    def rest(request: Request) -> Response:
        described = request.app.openapi()
        routes = [
            _route(path, operations["get"], described)
            for path, operations in described["paths"].items()
            if _TAG in operations.get("get", {}).get("tags", ())
        ]
        return site.render(request, "interface.html", routes=routes, base=str(request.base_url).rstrip("/"))


def _route(path: str, operation: dict[str, Any], described: dict[str, Any]) -> Route:
    content = operation["responses"]["200"]["content"]["application/json"]["schema"]
    name = content.get("$ref", "").rpartition("/")[2]
    example = described.get("components", {}).get("schemas", {}).get(name, {}).get("example")
    return Route(
        path=path,
        summary=operation.get("summary", ""),
        text=operation.get("description", ""),
        parameters=tuple(_asked(one) for one in operation.get("parameters", ())),
        example="" if example is None else json.dumps(example, indent=2, ensure_ascii=False),
    )


def _asked(parameter: dict[str, Any]) -> Asked:
    schema = parameter["schema"]
    choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    kind = " or ".join(" | ".join(map(str, one["enum"])) if "enum" in one else one.get("type", "") for one in choices)
    examples = parameter.get("examples") or schema.get("examples") or [""]
    first = examples[0] if isinstance(examples, list) else ""
    default = schema.get("default")
    return Asked(
        name=parameter["name"],
        kind=kind,
        text=parameter.get("description") or schema.get("description") or "",
        example=", ".join(first) if isinstance(first, list) else str(first),
        default="" if default in {None, ""} else str(default).lower() if isinstance(default, bool) else str(default),
        required=bool(parameter.get("required")),
    )
