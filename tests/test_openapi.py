"""Reading OpenAPI files: what generators write, in both forms, and a sentence for everything that is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.errors import UsageError
from resources.openapi import read_description
from resources.schemas import Shape
from tests.emulator import Emulator, Switches, World

Json = dict[str, Any]
RECORD: Json = {
    "type": "object",
    "properties": {
        "type": {"const": "bookings"},
        "id": {"type": "string"},
        "attributes": {"$ref": "#/components/schemas/Attributes"},
    },
}
SPEC: Json = {
    "openapi": "3.0.3",
    "info": {"title": "Appointments", "version": "7"},
    "servers": [{"url": "https://{region}.example.test/api/", "variables": {"region": {"default": "eu"}}}],
    "paths": {
        "/bookings": {
            "parameters": [{"$ref": "#/components/parameters/Page"}],
            "get": {
                "parameters": [
                    {
                        "name": "filter",
                        "in": "query",
                        "style": "deepObject",
                        "schema": {"properties": {"updatedAfter": {"type": "string", "format": "date-time"}}},
                    },
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                    {"name": "tenant", "in": "query", "required": True, "schema": {"type": "string"}},
                ],
                "responses": {
                    "400": {"description": "no"},
                    "200": {
                        "content": {
                            "application/vnd.api+json; charset=utf-8": {
                                "schema": {"allOf": [{"$ref": "#/components/schemas/List"}]}
                            }
                        }
                    },
                },
            },
        },
        "/bookings/{bookingId}": {"get": {"responses": {"200": {"description": "one"}}}},
        "/health": {"get": {"responses": {"200": {"description": "fine"}}}},
    },
    "components": {
        "parameters": {"Page": {"name": "page[size]", "in": "query", "schema": {"type": "integer", "maximum": 250}}},
        "schemas": {
            "List": {"properties": {"data": {"type": "array", "items": {"oneOf": [RECORD]}}}},
            "Attributes": {
                "properties": {
                    "status": {"type": "string", "nullable": True, "enum": ["confirmed", None]},
                    "startTime": {"type": ["string", "null"], "format": "date-time"},
                    "parent": {"$ref": "#/components/schemas/Attributes"},
                }
            },
        },
        "securitySchemes": {
            "o": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "../token", "scopes": {"r": ""}}}}
        },
    },
}


def written(folder: Path, value: object, name: str = "api.json") -> str:
    file = folder / name
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(file)


def test_a_file_is_read_with_its_references(tmp_path: Path) -> None:
    found = read_description(written(tmp_path, SPEC))
    assert (found.title, found.version, [s.url for s in found.servers]) == (
        "Appointments",
        "7",
        ["https://eu.example.test/api"],
    )
    assert (found.token_url, found.scopes, found.client_authentication) == (
        "https://eu.example.test/token",
        ("r",),
        None,
    )
    (bookings,) = found.lists
    assert (bookings.path, bookings.media_types, bookings.has_single) == (
        "/bookings",
        ("application/vnd.api+json",),
        True,
    )
    assert [p.name for p in bookings.parameters] == ["page[size]", "filter[updatedAfter]", "tenant"]
    assert bookings.parameters[0].shape.maximum == 250
    assert [p.is_required for p in bookings.parameters] == [False, False, True]
    attributes = bookings.record.at("attributes")
    assert bookings.record.at("type").words == ("bookings",)
    assert attributes.at("status").words == ("confirmed",)
    assert attributes.at("startTime").types == {"string"}
    assert attributes.at("parent", "status").types == {
        "string"
    }  # a schema that holds itself is followed for some steps


def test_both_forms_are_one_model(tmp_path: Path) -> None:
    one = read_description(written(tmp_path, SPEC, "a"))
    other = read_description(written(tmp_path, yaml.safe_dump(SPEC), "a"))
    assert one == other


def test_the_emulators_file_is_read_from_its_address_in_both_forms() -> None:
    with Emulator(
        World(seed=1, accounts=2, customers=8, bookings=12, events=2), Switches(client_authentication="post")
    ) as emulator:
        one, other = (read_description(f"{emulator.origin}/openapi.{form}") for form in ("json", "yaml"))
        assert one.lists == other.lists
        assert [e.path for e in one.lists] == ["/accounts", "/customers", "/bookings", "/events", "/intent-events"]
        assert ([s.url for s in one.servers], one.token_url) == ([emulator.base_url], emulator.token_url)
        assert one.client_authentication == "post"


def repeated(form: str) -> str:
    """A few lines of YAML that stand for 9^7 values: each holds, in some form, the line before it nine times."""
    lines = [f"x{n}: &x{n} " + form.format(", ".join([f"*x{n - 1}"] * 9)) for n in range(1, 8)]
    return "\n".join(["x0: &x0 {a: b}", *lines, "openapi: *x7"])


def changed(*keys: str, to: object) -> Json:
    value: Json = json.loads(json.dumps(SPEC))
    holder = value
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = to
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("<html><body>Reference</body></html>", "holds no object.*web page"),
        ("a: [1", r"neither JSON nor YAML \(line \d+\)"),
        ("[]", "holds no object"),
        (repeated("[{}]"), "holds more than 5,000,000 values, since its YAML aliases"),
        (repeated("{{<<: [{}]}}"), "holds more than 5,000,000 values, since its YAML aliases"),
        (changed("openapi", to="2.0"), "is not an OpenAPI 3 file: its member `openapi` is '2.0'"),
        (changed("paths", to={}), "describes no paths"),
        (
            changed("paths", "/bookings", "parameters", to=[{"$ref": "#/components/nowhere"}]),
            "leads nowhere inside the file",
        ),
        (
            changed("paths", "/bookings", "parameters", to=[{"$ref": "other.yaml#/x"}]),
            "'other.yaml#/x' leads nowhere inside the file",
        ),
        (
            changed("paths", "/bookings", "parameters", to=[{"$ref": "file:///etc/hostname"}]),
            "leads nowhere inside the file",
        ),
        (
            changed("paths", "/bookings", "parameters", to=[{"$ref": "https://example.test/x.json"}]),
            "leads nowhere inside",
        ),
        (changed("components", "parameters", "Page", to={"$ref": "#/components/parameters/Page"}), "leads in a circle"),
        (changed("servers", to=[{"url": "http://[::1"}]), "is not built as OpenAPI 3 asks: ValueError"),
        (changed("servers", to=[{"url": "https://x.test:port"}]), "is not built as OpenAPI 3 asks: ValueError"),
        (
            changed("paths", "https://eu.example.test/api/bookings", to=SPEC["paths"]["/bookings"]),
            "the path 'https://eu.example.test/api/bookings' is a whole address.*Write it as '/api/bookings'",
        ),
    ],
    ids=range(15),
)
def test_what_is_no_openapi_file_gets_a_sentence(tmp_path: Path, value: object, told: str) -> None:
    source = written(tmp_path, value)
    with pytest.raises(UsageError, match=told) as failure:
        read_description(source)
    assert str(failure.value).startswith(source)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives one answer, whatever it is asked; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/openapi.json"
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("http://[::1/x", "is no address: Invalid IPv6 URL"),
        ("https://[::1/x", "is no address: Invalid IPv6 URL"),
        ("http://localhost:99999/x", "is no address: Port out of range"),
        ("http://localhost:http/x", "is no address: Port could not be cast"),
        ("https://", "cannot be fetched: .*no host"),
        ("http://127.0.0.1/a b", "cannot be fetched: URL can't contain control characters"),
        (f"https://{'a' * 70}.invalid/openapi.json", "cannot be fetched"),
        ("HTTP://api.example.test/openapi.json", "plain http"),
        ("openapi\0.json", "cannot be read"),
    ],
)
def test_an_address_that_is_none_gets_a_sentence(source: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_description(source)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "cannot be fetched: Remote end closed"),
        (b"ready.\r\n\r\n", "cannot be fetched: ready"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nopenapi: 3.1.0\n", "cannot be fetched: IncompleteRead"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1/x\r\nContent-Length: 0\r\n\r\n", "cannot be fetched"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 8\r\n\r\n\x89PNG\r\n\x1a\n",
            "answers with image/png that is not UTF-8 text",
        ),
    ],
)
def test_an_answer_that_is_no_file_gets_a_sentence(answer: bytes, told: str) -> None:
    with answering(answer) as source, pytest.raises(UsageError, match=told):
        read_description(source)


def test_schemas_are_put_together_as_openapi_means_them(tmp_path: Path) -> None:
    def shape(of: Json, version: str = "3.1.0") -> Shape:
        value = changed("components", "schemas", "Attributes", "properties", "status", to=of)
        value["components"]["schemas"]["Word"] = {"type": "string", "enum": ["a", "b"]}
        (bookings,) = read_description(written(tmp_path, value | {"openapi": version})).lists
        return bookings.record.at("attributes", "status")

    assert shape({"allOf": [{"type": ["string", "integer"]}, {"type": "string"}]}).types == {"string"}
    assert shape({"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}).words == ("b",)
    assert shape({"anyOf": [{"const": "a"}, {"type": "null"}]}).is_closed
    assert not shape({"anyOf": [{"const": "a"}, {"type": "string"}]}).is_closed
    assert shape({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10.5}).maximum == 10
    deep: Json = {"enum": ["a"]}
    for _ in range(20):  # putting together is no depth
        deep = {"allOf": [deep]}
    assert shape(deep).words == ("a",)
    # What stands beside a reference counts in 3.1, and means nothing in 3.0.
    beside = {"$ref": "#/components/schemas/Word", "enum": ["a"]}
    assert (shape(beside).words, shape(beside, "3.0.3").words) == (("a",), ("a", "b"))
    assert shape({"allOf": [{"$ref": "#/components/schemas/Attributes/properties/status"}, {"const": 1}]}).words == (
        "1",
    )


def test_a_source_that_cannot_be_had_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_description(str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="plain http"):
        read_description("http://api.example.test/openapi.json")
    with Emulator(World(seed=1, accounts=1, customers=1, bookings=1, events=0)) as emulator:
        with pytest.raises(UsageError, match=r"cannot be fetched: .*404.*Save the file"):
            read_description(f"{emulator.origin}/openapi.xml")
        address = emulator.origin
    with pytest.raises(UsageError, match="cannot be fetched"):
        read_description(f"{address}/openapi.json")
