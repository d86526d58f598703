"""What `GET /openapi.json` says of the relay, to hold real answers against."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from relay import openapi

DOCUMENT: Final[dict[str, Any]] = json.loads(openapi._DOCUMENT)
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
EVENTS: Final[dict[str, Any]] = SCHEMAS["EventStream"]["x-events"]
"""The schema of each event by its name."""
METHODS: Final = ("get", "post", "delete")

_URI: Final = "urn:relay"
_REGISTRY: Final = Registry().with_resource(_URI, DRAFT202012.create_resource(DOCUMENT))


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return all operations by method and path."""
    return {
        (method.upper(), path): item[method]
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def resolved(described: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference refers to; anything else as it is."""
    while "$ref" in described and len(described) == 1:
        found: Any = DOCUMENT
        for name in described["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/")]
        described = found
    return described


def check_event(name: str, data: Mapping[str, Any]) -> None:
    """Fail unless an event of this name may look like this; `message` is a frame."""
    if name == "message":
        check({"$ref": "#/components/schemas/Frame"}, data)
    else:
        check(EVENTS[name], data)
        assert set(data) == set(resolved(EVENTS[name])["properties"]), data


def check_answer(described: dict[str, Any], headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless a response that is described so may have these headers and this body."""
    described = resolved(described)
    for name, header in described.get("headers", {}).items():
        rule = resolved(header)
        assert name in headers or not rule.get("required"), (name, headers)
        if name in headers:
            check(rule["schema"], headers[name])
    kind = headers.get("Content-Type", "").partition(";")[0]
    contents = described.get("content")
    if contents is None:
        assert not body
    elif kind == "application/json":
        check(contents[kind]["schema"], json.loads(body))
    else:
        assert kind in contents


def check(schema: dict[str, Any], value: Any) -> None:
    """Fail unless a value is as a schema of the document has it."""
    validator(json.dumps(schema)).validate(value)


@cache
def validator(schema: str) -> Draft202012Validator:
    """Return what checks values against a schema, in JSON, of the document."""
    absolute = schema.replace('"#/', f'"{_URI}#/')
    return Draft202012Validator(json.loads(absolute), registry=_REGISTRY)
