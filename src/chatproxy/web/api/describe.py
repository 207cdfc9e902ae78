"""What does the API look like to a program? OpenAPI 3.1, made of the table that serves it and the forms that check it."""

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatproxy import __version__
from chatproxy.web.api.operation import JSON_TYPE, LINES_TYPE, Operation
from chatproxy.web.api.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"
_COMMON = (400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503)
_NAME = re.compile(r"\{(\w+)\}")


def describe(
    operations: Sequence[Operation[Any]],
    *,
    base: str,
    title: str,
    about: str,
    security: Mapping[str, Mapping[str, str]],
    path_names: Mapping[str, str],
) -> dict[str, Any]:
    """Return the description. ``security``: the ways to say who asks. ``path_names``: what each name in a path is."""
    forms = [Problem]
    for operation in operations:
        forms += [form for form in (operation.takes, operation.gives) if form is not None]
    schemas, components = msgspec.json.schema_components(forms, ref_template=_REF)
    by_form = dict(zip(map(str, forms), schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(base + operation.path, {})[operation.method.lower()] = _operation(
            operation, by_form.__getitem__, path_names
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "description": about, "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": dict(security)},
        "security": [{name: []} for name in security],
    }


def description_route(path: str, description: Mapping[str, Any]) -> Route:
    """Return the route under which a description can be read by anyone."""
    content = msgspec.json.format(msgspec.json.encode(description), indent=1)

    async def send(_: Request) -> Response:
        headers = {"x-content-type-options": "nosniff", "cache-control": "no-cache"}
        return Response(content, media_type=JSON_TYPE, headers=headers)

    return Route(path, send)


def _operation(
    operation: Operation[Any], schema: Callable[[str], Any], path_names: Mapping[str, str]
) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": path_names[name],
            "schema": {"type": "string"},
        }
        for name in _NAME.findall(operation.path)
    ]
    parameters += [
        {
            "name": query.name,
            "in": "query",
            "required": False,
            "description": query.about,
            "schema": msgspec.json.schema(query.form),
        }
        for query in operation.queries
    ]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done",
                "content": {JSON_TYPE: {"schema": schema(str(operation.gives))}},
            }
        }
        | {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"schema": schema(str(Problem))}},
            }
            for status in sorted({*_COMMON, *operation.fails})
        },
    }
    if operation.takes is not None:
        media_type = LINES_TYPE if operation.are_lines else JSON_TYPE
        described["requestBody"] = {
            "required": True,
            "content": {media_type: {"schema": schema(str(operation.takes))}},
        }
    return described
