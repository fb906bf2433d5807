"""The OpenAPI 3.1 document of a dialect, as a vendor would generate it: parameters from what the query reader knows, schemas from what the renderer sends.

No behaviour lives here. It is written with `$ref`s wherever a generator would write them. It describes all records of the world, so an attribute that is
always null has no type in it.
"""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import msgspec
import yaml

from .entities import Booking, Record
from .query import INCLUDES, QueryReader
from .render import Renderer
from .state import State
from .switches import Switches
from .tables import Table

Json = dict[str, Any]
FILES = {"/openapi.json": "json", "/openapi.yaml": "yaml"}
STREAMS = ("accounts", "customers", "bookings", "events", "intentEvents")
LOOKED_AT = 200
_INSTANT_NAMES = ("updated", "created", "start", "end")


def as_text(document: Json, form: str) -> str:
    """The document as JSON or YAML text."""
    return yaml.safe_dump(document, sort_keys=False) if form == "yaml" else json.dumps(document, indent=1)


def description(world: State, switches: Switches, origin: str) -> Json:
    """The document; to be called under the world's lock."""
    return _Writer(world, switches, origin).document()


def _schema(values: Iterable[Any]) -> Json:
    """The schema of some values of one member."""
    seen = list(values)
    kinds: set[str] = set()
    for value in seen:
        kinds.add(_kind(value))
    schema: Json = {}
    named = sorted(kinds - {"null"})
    if "integer" in named and "number" in named:
        named.remove("integer")
    if named:
        schema["type"] = [*named, "null"] if "null" in kinds else named[0] if len(named) == 1 else named
    objects = [value for value in seen if isinstance(value, dict)]
    if objects:
        members = dict.fromkeys(name for value in objects for name in value)
        schema["properties"] = {n: _schema(value[n] for value in objects if n in value) for n in members}
    lists = [one for value in seen if isinstance(value, list) for one in value]
    if "array" in kinds:
        schema["items"] = _schema(lists) if lists else {}
    texts = [value for value in seen if isinstance(value, str)]
    if texts and all(len(text) > 19 and text[4] == text[7] == "-" and text[10] == "T" for text in texts):
        schema["format"] = "date-time"
    return schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}.get(type(value), "object")


class _Writer:
    def __init__(self, world: State, switches: Switches, origin: str) -> None:
        self._world, self._switches, self._origin = world, switches, origin
        self._renderer = Renderer(world, switches, origin)
        self._reader = QueryReader(switches)
        self._name = switches.naming
        self._media = "application/vnd.api+json" if switches.media_type == "vnd" else "application/json"
        self._parameters: Json = {}
        self._schemas: Json = {}

    def document(self) -> Json:
        tables = {
            "accounts": self._world.accounts,
            "customers": self._world.customers,
            "bookings": self._world.bookings,
            "events": self._world.events,
            "intentEvents": self._world.intent_events,
        }
        paths: Json = {}
        for stream in STREAMS:
            table = cast("Table[Record]", tables[stream])
            path = "/" + self._name.path(stream)
            paths[path] = {"get": self._list(stream, table)}
            paths[path + "/{id}"] = {
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "get": {"responses": {"200": {"description": "One record"}}},
            }
        return {
            "openapi": "3.1.0",
            "info": {"title": "Appointments API", "version": "2.0.0-emulated"},
            "servers": [{"url": self._origin + "/{version}", "variables": {"version": {"default": "v2"}}}],
            "security": [{"oauth": []}],
            "paths": paths | self._token_path(),
            "components": {
                "parameters": self._parameters,
                "schemas": self._schemas,
                "securitySchemes": {
                    "oauth": {
                        "type": "oauth2",
                        "flows": {"clientCredentials": {"tokenUrl": self._origin + "/oauth/token", "scopes": {}}},
                    }
                },
            },
        }

    def _token_path(self) -> Json:
        """Where the secret belongs in the body, the token endpoint is described too; no security scheme has a word for it."""
        if self._switches.client_authentication != "post":
            return {}
        fields = {name: {"type": "string"} for name in ("grant_type", "client_id", "client_secret")}
        content = {"application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": fields}}}
        body = {"requestBody": {"content": content}, "responses": {"200": {"description": "A token"}}}
        return {"/oauth/token": {"servers": [{"url": self._origin}], "post": body}}

    def _list(self, stream: str, table: Table[Record]) -> Json:
        name = self._name.type(stream)
        rows = [self._sent(one) for one in islice(table, LOOKED_AT)]
        self._schemas[name] = self._resource(name, rows)
        document: Json = {
            "type": "object",
            "properties": {"data": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}},
        }
        if stream == "bookings" and self._switches.participants == "included":
            document["properties"]["included"] = self._included(cast("Table[Booking]", table))
        places = [self._switches.next_in] * (self._switches.next_in != "header")
        for place in (*places, *[self._switches.total_in] * (self._switches.meta_total == "present")):
            inner = document
            for step in place.split("."):
                inner = inner.setdefault("properties", {}).setdefault(step, {"type": "object"})
            inner["type"] = ["string", "null"] if place == self._switches.next_in else "integer"
        parameters = [self._parameter(stream, sent, known) for sent, known in self._reader.parameters(stream).items()]
        answer = {"description": "A page", "content": {self._media: {"schema": document}}}
        return {"summary": f"List {name}", "parameters": parameters, "responses": {"200": answer}}

    def _sent(self, record: Any) -> Json:
        """A record as it goes over the wire, without what belongs to one answer."""
        sent: Json = msgspec.json.decode(self._renderer.encode(self._renderer.resource(record)))
        return {name: value for name, value in sent.items() if name != "links"}

    def _resource(self, name: str, rows: list[Json]) -> Json:
        whole = _schema(rows)
        properties = whole.get("properties", {})
        attributes = properties.get("attributes", {}).get("properties", {})
        status = attributes.get(self._name.attribute("status"))
        if status is not None and name == self._name.type("bookings"):
            status["enum"] = ["confirmed", "cancelled"]
        own = {k: v for k, v in properties.items() if k != "type"}
        base = {"type": "object", "properties": {"type": {"type": "string"}, "id": properties.get("id", {})}}
        self._schemas.setdefault("Resource", base)
        more = {"properties": own | {"type": {"const": name}}}
        return {"allOf": [{"$ref": "#/components/schemas/Resource"}, more]}

    def _included(self, table: "Table[Booking]") -> Json:
        people = [one for booking in islice(table, LOOKED_AT) for one in booking.participants]
        name = self._name.type("customerBookings")
        self._schemas[name] = self._resource(name, [self._sent(one) for one in people])
        return {"type": "array", "items": {"oneOf": [{"$ref": f"#/components/schemas/{name}"}]}}

    def _parameter(self, stream: str, sent: str, known: str) -> Json:
        schema: Json = {"type": "string"}
        if known == "page[size]":
            schema = {"type": "integer", "minimum": 1, "maximum": self._switches.max_page_size}
        elif known == "sort":
            schema = {"type": "string", "enum": [mark + name for name in self._reader.sorts for mark in ("", "-")]}
        elif known == "include":
            paths = list(self._reader.includes(stream)) if stream in INCLUDES else []
            schema = {"type": "array", "items": {"type": "string", "enum": paths}}
        elif known.startswith(tuple(f"filter[{name}" for name in _INSTANT_NAMES)):
            schema = {"type": "string", "format": "date-time"}
        elif known == "filter[status]":
            schema = {"type": "string", "enum": ["confirmed", "cancelled"]}
        key = "".join(c if c.isalnum() else "_" for c in f"{stream}_{known}").strip("_")
        self._parameters[key] = {"name": sent, "in": "query", "schema": schema}
        return {"$ref": f"#/components/parameters/{key}"}
