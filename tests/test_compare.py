"""What `contract --openapi` calls breaking and what harmless: one change to a file that fits, and what is said of it.

What lives here: the decisions, on plain documents. What does not: the emulator's own file (`test_connect`), reading files (`test_openapi`).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.connect.compare import compare
from pipelines.connect.difference import Difference
from pipelines.streams import BUILT_IN
from resources.contract import Contract, load_contract
from resources.errors import UsageError
from resources.openapi import read_description
from resources.settings import Settings

Json = dict[str, Any]
Change = Callable[[Json], object]
BASE_URL = "https://api.example.test/v2"
TOKEN_URL = "https://api.example.test/oauth/token"
LINKAGE: Json = {"properties": {"data": {"properties": {"type": {"type": "string"}, "id": {"type": "string"}}}}}
SCHEMAS: dict[str, Json] = {
    "instant": {"type": "string", "format": "date-time"},
    "money": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
}


def record(stream: str, contract: Contract) -> Json:
    names, kinds = contract.streams[stream], {c.name: c.kind for c in BUILT_IN[stream].columns}
    kept = {c: aliases[0] for c, aliases in names.columns.items() if c not in ("participants", "service_name")}
    attributes = {alias: SCHEMAS.get(kinds.get(column, ""), {"type": "string"}) for column, alias in kept.items()}
    for column, alias in kept.items():
        if column in ("tags", "custom_fields", "resources"):
            member = "name" if column == "tags" else "id"
            attributes[alias] = {"type": "array", "items": {"properties": {member: {"type": "string"}}}}
    relationships = {} if stream == "accounts" else {"account": copy.deepcopy(LINKAGE)}
    if stream == "bookings":
        relationships["customerBookings"] = {
            "properties": {"data": {"type": "array", "items": LINKAGE["properties"]["data"]}}
        }
    return {
        "type": "object",
        "properties": {
            "type": {"enum": [stream]},
            "id": {"type": "string"},
            "attributes": {"type": "object", "properties": copy.deepcopy(attributes)},
            "relationships": {"type": "object", "properties": relationships},
        },
    }


def fitting(contract: Contract, *streams: str) -> Json:
    """A file that fits the contract, with some lists."""
    paths: Json = {}
    schemas: Json = {}
    for stream in streams:
        words = {"type": "string", "enum": ["updated", "-updated", "created"]}
        parameters: list[Json] = [
            {"name": "page[size]", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
            {"name": "page[cursor]", "in": "query", "schema": {"type": "string"}},
            {"name": "sort", "in": "query", "schema": words},
            {"name": "filter[updatedAfter]", "in": "query", "schema": {"type": "string", "format": "date-time"}},
            {"name": "filter[updatedBefore]", "in": "query", "schema": {"type": "string", "format": "date-time"}},
            {"name": "filter[account]", "in": "query", "schema": {"type": "string"}},
            {"name": "filter[status]", "in": "query", "schema": {"enum": ["confirmed", "cancelled"]}},
            {
                "name": "include",
                "in": "query",
                "schema": {"type": "array", "items": {"type": "string", "enum": ["customerBookings"]}},
            },
        ]
        schemas[stream] = record(stream, contract)
        link = {"type": ["string", "null"], "format": "uri"}
        document = {
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{stream}"}},
                "links": {"type": "object", "properties": {"self": link, "next": link}},
                "meta": {"type": "object", "properties": {"total": {"type": "integer"}}},
            },
        }
        answer = {"description": "a page", "content": {"application/vnd.api+json": {"schema": document}}}
        paths["/" + stream] = {"get": {"parameters": parameters, "responses": {"200": answer}}}
        paths["/" + stream + "/{id}"] = {"get": {"responses": {"200": {"description": "one"}}}}
    flow = {"tokenUrl": TOKEN_URL, "scopes": {"read": "", "more": ""}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Appointments", "version": "2"},
        "servers": [{"url": BASE_URL}],
        "security": [{"oauth": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {},
            "securitySchemes": {
                "oauth": {"type": "oauth2", "flows": {"clientCredentials": flow}},
                "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


WHOLE = load_contract()
# One list is enough for most questions, and quickly read.
CONTRACT = WHOLE.model_copy(
    update={
        "streams": {name: one.model_copy(update={"enabled": name == "bookings"}) for name, one in WHOLE.streams.items()}
    }
)
FITTING = fitting(CONTRACT, "bookings")
SETTINGS = Settings(_env_file=None, appointedd_base_url=BASE_URL, appointedd_token_url=TOKEN_URL)  # type: ignore[call-arg]


def with_queries(*queries: dict[str, str]) -> Contract:
    bookings = CONTRACT.streams["bookings"].model_copy(update={"queries": queries})
    return CONTRACT.model_copy(update={"streams": {**CONTRACT.streams, "bookings": bookings}})


def with_part(part: str, **values: Any) -> Contract:
    return CONTRACT.model_copy(update={part: getattr(CONTRACT, part).model_copy(update=values)})


def differences(file: Path, value: Json, contract: Contract) -> list[Difference]:
    file.write_text(json.dumps(value), encoding="utf-8")
    return compare(SETTINGS, contract, read_description(str(file)))


def breaking(folder: Path, change: Change, contract: Contract = CONTRACT) -> set[tuple[str, str]]:
    value = copy.deepcopy(FITTING)
    change(value)
    found = differences(folder / "api.json", value, contract)
    return {(d.stream, d.what) for d in found if d.weight == "breaking"}


# Ways to the parts of a file


def operation(value: Json, stream: str = "bookings") -> Json:
    found: Json = value["paths"]["/" + stream]["get"]
    return found


def document(value: Json, stream: str = "bookings") -> Json:
    found: Json = operation(value, stream)["responses"]["200"]["content"]["application/vnd.api+json"]["schema"]
    return found


def attributes(value: Json, stream: str = "bookings") -> Json:
    found: Json = value["components"]["schemas"][stream]["properties"]["attributes"]["properties"]
    return found


def put(where: Callable[[Json], Json], **members: Any) -> Change:
    return lambda value: where(value).update(members)


def relationships(value: Json) -> Json:
    found: Json = value["components"]["schemas"]["bookings"]["properties"]["relationships"]["properties"]
    return found


def content(schema: Json) -> Json:
    return {"application/vnd.api+json": {"schema": schema}}


def links(value: Json) -> Json:
    found: Json = document(value)["properties"]
    return found


def schema(name: str, to: Json) -> Change:
    def change(value: Json) -> None:
        next(p for p in operation(value)["parameters"] if p["name"] == name)["schema"] = to

    return change


def more(*parameters: Json) -> Change:
    return lambda value: operation(value)["parameters"].extend(parameters)


def deep(members: Json, required: list[str], **rest: Any) -> Change:
    """The filters of bookings as one deep object."""

    def change(value: Json) -> None:
        own = operation(value)
        kept = [p for p in own["parameters"] if not p["name"].startswith("filter")]
        whole = {"type": "object", "properties": members, "required": required, **rest}
        own["parameters"] = [*kept, {"name": "filter", "in": "query", "style": "deepObject", "schema": whole}]

    return change


def each(*changes: Change) -> Change:
    def change(value: Json) -> None:
        for one in changes:
            one(value)

    return change


INSTANT: Json = {"type": "string", "format": "date-time"}
FILTERS: Json = {"updatedAfter": INSTANT, "updatedBefore": INSTANT, "status": {"type": "string"}}
LINK: Json = {"type": "string"}


def test_a_file_that_fits_breaks_nothing(tmp_path: Path) -> None:
    found = differences(tmp_path / "api.json", fitting(WHOLE, *BUILT_IN), WHOLE)
    assert [d.what for d in found] == ["service_name has no attribute, as is known"]
    assert breaking(tmp_path, lambda value: None, with_queries({"filter[status]": "cancelled"})) == set()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        # The next link
        (
            put(links, links={"properties": {"self": LINK}}, meta={"properties": {"next": LINK}}),
            "the link to the next page stands at meta.next, not at links.next",
        ),
        (
            lambda v: links(v).update(links={"properties": {"first": LINK}}),
            "no link to the next page is described at links.next",
        ),
        (
            put(links, links={"properties": {"next": {"type": "integer"}}}),
            "links.next is integer, which is no link to the next page",
        ),
        (
            put(links, links={"properties": {"next": {"type": "object", "properties": {"cursor": LINK}}}}),
            "links.next is object, which is no link to the next page",
        ),
        (
            lambda v: (links(v).pop("links"), links(v).update(meta={"properties": {"next_cursor": LINK}})),
            "no link to the next page is described at links.next",
        ),
        (
            lambda v: (
                [links(v).pop(name) for name in ("links", "meta")],
                operation(v)["responses"]["200"].update(headers={"Link": {"schema": LINK}}),
            ),
            "no link to the next page is described at links.next",
        ),
        (lambda v: links(v).pop("links"), "no link to the next page is described at links.next"),
        # Types and formats
        (
            put(attributes, startTime={"type": "string", "format": "date"}),
            "startTime is string in the format date, which start_at cannot hold",
        ),
        (
            put(attributes, startTime={"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
            "startTime is string in the format date, which start_at cannot hold",
        ),
        (
            put(attributes, startTime={"allOf": [{"type": "string"}, {"format": "date"}]}),
            "startTime is string in the format date, which start_at cannot hold",
        ),
        (put(attributes, startTime={"type": "integer"}), "startTime is integer, which start_at cannot hold"),
        (
            put(attributes, startTime={"type": ["string", "integer", "null"]}),
            "startTime is integer or string, which start_at cannot hold",
        ),
        (
            put(attributes, price={"properties": {"net": {}, "currency": {}}}),
            "price is object, which price cannot hold",
        ),
        (
            put(attributes, price={"oneOf": [{"type": "number"}, {"type": "object"}]}),
            "price is number or object, which price cannot hold",
        ),
        (put(attributes, bookingType={"type": "boolean"}), "bookingType is boolean, which booking_type cannot hold"),
        (
            put(attributes, service={"type": "object", "properties": {"title": {"type": "string"}}}),
            "service is an object without id, which service_id cannot hold",
        ),
        (
            put(attributes, resources={"type": "array", "items": {"properties": {"name": {"type": "string"}}}}),
            "resources is a list of objects without id, which resources cannot hold",
        ),
        (put(attributes, resources={"type": "boolean"}), "resources is boolean, which resources cannot hold"),
        (
            put(
                relationships,
                customerBookings={"properties": {"data": {"type": "array", "items": {"type": "string"}}}},
            ),
            "customerBookings is a list of string, which participants cannot hold",
        ),
        (put(attributes, price={"type": "number", "writeOnly": True}), "price has no attribute and would stay empty"),
        (
            put(lambda v: v["components"]["schemas"], bookings={"properties": {"id": {}, "start": {}, "price": {}}}),
            "its records carry no attributes member, so they are no JSON:API records",
        ),
        (
            lambda v: v["components"]["schemas"]["bookings"]["properties"].update(id={"type": "object"}),
            "id of its records is object",
        ),
        # Values that are sent
        (schema("page[size]", {"type": "integer", "maximum": 50}), "page[size] ends at 50"),
        (schema("page[size]", {"type": "integer", "exclusiveMaximum": 100}), "page[size] ends at 99"),
        (schema("page[size]", {"allOf": [{"maximum": 500}, {"maximum": 50}]}), "page[size] ends at 50"),
        (schema("page[size]", {"type": "string", "pattern": "^[0-9]{1,2}$"}), "page[size] takes ^[0-9]{1,2}$, not 100"),
        (schema("page[size]", {"enum": [10, 25, 50]}), "page[size] does not take 100"),
        (schema("sort", {"type": "array", "items": {"enum": ["created"]}}), "sort does not take updated"),
        (schema("include", {"enum": ["service"]}), "include does not take customerBookings"),
        (
            schema("filter[updatedAfter]", {"type": "string", "format": "date"}),
            "filter[updatedAfter] takes date, not an instant",
        ),
        (
            schema("filter[updatedAfter]", {"type": "integer"}),
            "filter[updatedAfter] takes integer, not 2026-01-02T03:04:05Z",
        ),
        # What has become required
        (
            more({"name": "tenant", "in": "query", "required": True, "schema": {"type": "string"}}),
            "the parameter tenant must be sent",
        ),
        (
            more({"name": "X-Tenant", "in": "header", "required": True, "schema": {"type": "string"}}),
            "the header X-Tenant must be sent",
        ),
        (more({"name": "session", "in": "cookie", "required": True}), "the cookie session must be sent"),
        (
            deep(FILTERS | {"brand": {}}, ["brand"]),
            "the parameter filter[brand] must be sent beside filter[updatedAfter]",
        ),
        (
            deep(FILTERS, ["updatedBefore"]),
            "the parameter filter[updatedBefore] must be sent beside filter[updatedAfter], and not every request of a sync does",
        ),
        (
            lambda v: operation(v)["parameters"][3].update(required=True),
            "the parameter filter[updatedAfter] must be sent, and not every request of a sync does",
        ),
        (
            lambda v: v["paths"]["/bookings"].update(
                parameters=[{"name": "tenant", "in": "query", "required": True, "schema": {}}]
            ),
            "the parameter tenant must be sent",
        ),
        # Scopes and keys
        (
            lambda v: operation(v).update(security=[{"oauth": ["read", "more"]}, {"oauth": ["read"]}]),
            "the scope read must be asked for",
        ),
        (lambda v: v.update(security=[{"oauth": ["read", "more"]}]), "the scopes more, read must be asked for"),
        (lambda v: operation(v).update(security=[{"oauth": [], "key": []}]), "it wants key besides a token"),
        # Where and how it is served
        (
            lambda v: operation(v)["responses"]["200"].update(
                content={"application/hal+json": {"schema": document(v)}}
            ),
            "answers are application/hal+json",
        ),
        (
            lambda v: v["paths"]["/bookings"].update(servers=[{"url": "https://eu.example.test/v2"}]),
            "it is served at https://eu.example.test/v2, and no token leaves https://api.example.test/v2",
        ),
        (
            lambda v: v["paths"]["/bookings"].update(servers=[{"url": "https://api.example.test/v3"}]),
            "no list at bookings; /v3/bookings looks like it",
        ),
    ],
)
def test_one_change_to_a_list_breaks_it(tmp_path: Path, change: Change, what: str) -> None:
    assert ("bookings", what) in breaking(tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [
        # The next link, told in other ways or not at all
        put(links, links={"type": "object", "additionalProperties": {"type": "string"}}),
        put(links, links={"allOf": [{"properties": {"self": LINK}}, {"properties": {"next": {"anyOf": [LINK, {"type": "null"}]}}}]}),
        put(links, links={"properties": {"next": {"oneOf": [{"properties": {"href": LINK}}, LINK]}}}),
        lambda v: [links(v).pop(name) for name in ("links", "meta")],
        # Types and formats that a column can read
        put(attributes, startTime={"type": ["string", "null"]}),
        put(attributes, startTime={"type": "string", "nullable": True, "format": "iso8601"}),
        put(attributes, startTime={"$ref": "#/components/schemas/When", "description": "the start"}),
        put(attributes, startTime={"oneOf": [{"type": "null"}, INSTANT]}),
        put(attributes, price={"type": "string", "format": "decimal"}),
        put(attributes, price={"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}),
        put(attributes, allowOnlineGroup={"type": "string", "enum": ["true", "false"]}),
        put(attributes, service={"oneOf": [{"type": "string"}, {"type": "object", "properties": {"id": {}}}]}),
        put(attributes, brandNew={"type": "object", "required": ["x"]}),
        lambda v: v["components"]["schemas"]["bookings"]["properties"].update(attributes={"type": "object"}),
        # Values
        schema("page[size]", {"type": "number", "maximum": 1000.0}),
        schema("page[size]", {"type": "integer", "maximum": 100, "exclusiveMaximum": False}),
        schema("page[size]", {"anyOf": [{"maximum": 50}, {"type": "integer", "maximum": 200}]}),
        schema("page[size]", {"type": "string", "pattern": r"^\p{Nd}+$"}),
        schema("sort", {"anyOf": [{"enum": ["name"]}, {"type": "string"}]}),
        schema("sort", {"oneOf": [{"enum": ["name"]}, {"type": "array", "items": {"enum": ["updated"]}}]}),
        schema("include", {"type": "array", "items": {"type": "string"}}),
        # Filters as a deep object, of any depth or of any name
        deep(FILTERS, []),
        deep(FILTERS, ["updatedAfter"]),
        deep({}, [], additionalProperties=True),
        # What is asked for, and is sent
        lambda v: operation(v)["parameters"][0].update(required=True),
        more({"name": "Accept", "in": "header", "required": True, "schema": {"type": "string"}}),
        more({"name": "X-Trace", "in": "header", "schema": {"type": "string"}}),
        lambda v: v["paths"]["/bookings"].update(
            parameters=[{"name": "sort", "in": "query", "required": True, "schema": {"enum": ["else"]}}]
        ),
        lambda v: operation(v).update(security=[{"oauth": ["read"]}, {"oauth": []}]),
        lambda v: operation(v).update(security=[{"oauth": ["read"]}, {"bearer": []}]),
        lambda v: operation(v).update(security=[{"oauth": ["read"]}, {}]),
        lambda v: operation(v).update(security=[]),
        # Servers
        lambda v: v.update(servers=[{"url": "https://sandbox.example.test/test"}, {"url": BASE_URL}]),
        lambda v: v.update(servers=[{"url": "/v2"}]),
        lambda v: v.update(servers=[{"url": "https://API.example.test:443/v2/"}]),
        lambda v: v.update(
            servers=[{"url": "https://{where}.example.test/{v}", "variables": {"where": {"default": "eu", "enum": ["eu", "api"]}, "v": {"default": "v1"}}}]
        ),
        lambda v: operation(v).update(servers=[{"url": "https://api.example.test/v2"}]),
        lambda v: v.update(servers=[{"url": "https://api.example.test/"}], paths={"/v2/bookings": v["paths"]["/bookings"]}),
        # The page described in other places
        lambda v: operation(v).update(responses={"default": operation(v)["responses"]["200"]}),
        lambda v: operation(v).update(responses={"206": {}, "200": operation(v)["responses"]["200"]}),
        lambda v: operation(v)["responses"]["200"].update(content=content({"anyOf": [{"allOf": [document(v)]}, {"properties": {"errors": {}}}]})),
        lambda v: (v["components"].update(pathItems={"B": v["paths"]["/bookings"]}), v["paths"].update({"/bookings": {"$ref": "#/components/pathItems/B"}})),
        lambda v: (v["components"].update(parameters={"S": operation(v)["parameters"].pop(0)}), more({"$ref": "#/components/parameters/S"})(v)),
        # An attribute and a relationship of one name: the attribute is read
        lambda v: relationships(v).update(service={"properties": {"data": {"type": "array"}}}),
    ],
)  # fmt: skip
def test_one_change_to_a_list_is_harmless(tmp_path: Path, change: Change) -> None:
    assert breaking(tmp_path, each(lambda v: v["components"]["schemas"].update(When=INSTANT), change)) == set()


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ({"type": "string", "enum": ["confirmed"]}, "filter[status] does not take cancelled"),
        ({"type": "array", "items": {"enum": ["confirmed"]}}, "filter[status] does not take cancelled"),
        ({"oneOf": [{"enum": ["a"]}, {"type": "array", "items": {"enum": ["b"]}}]}, "filter[status] does not take cancelled"),
        ({"type": "string", "pattern": "^[A-Z]+$"}, "filter[status] takes ^[A-Z]+$, not cancelled"),
        ({"type": "boolean"}, "filter[status] takes boolean, not cancelled"),
        ({"type": "array", "items": {"enum": ["confirmed", "cancelled"]}}, None),
        ({"type": "string"}, None),
        ({"anyOf": [{"enum": ["confirmed", "cancelled"]}, {"type": "null"}]}, None),
    ],
)  # fmt: skip
def test_words_of_a_query_are_looked_up(tmp_path: Path, to: Json, what: str | None) -> None:
    found = breaking(tmp_path, schema("filter[status]", to), with_queries({}, {"filter[status]": "cancelled"}))
    assert found == ({("bookings", what)} if what else set())


def test_another_host_or_path_of_the_whole_api_breaks(tmp_path: Path) -> None:
    for url in ("https://other.example.test/v2", "https://api.example.test/v3", "/v3"):
        found = breaking(tmp_path, lambda v, url=url: v.update(servers=[{"url": url}]))  # type: ignore[misc]
        assert ("", f"the file says {url} and the settings {BASE_URL}") in found


def test_booleans_are_compared_as_they_stand_in_an_address(tmp_path: Path) -> None:
    contract = with_queries({"deleted": "true"})
    assert breaking(tmp_path, more({"name": "deleted", "in": "query", "schema": {"enum": [True]}}), contract) == set()
    assert breaking(tmp_path, more({"name": "deleted", "in": "query", "schema": {"enum": [False]}}), contract)


def test_a_parameter_counts_as_sent_only_where_each_query_sends_it(tmp_path: Path) -> None:
    change = more({"name": "tenant", "in": "query", "required": True, "schema": {"type": "string"}})
    assert not breaking(tmp_path, change, with_queries({"tenant": "a"}, {"tenant": "b"}))
    assert breaking(tmp_path, change, with_queries({"tenant": "a"}, {}))
    sorts = schema("sort", {"type": "string"})
    must = each(sorts, lambda v: operation(v)["parameters"][2].update(required=True))
    assert not breaking(tmp_path, must)
    assert breaking(tmp_path, must, with_part("abilities", sort=False)) == {
        ("bookings", "the parameter sort must be sent")
    }


def test_scopes_are_those_of_the_contract(tmp_path: Path) -> None:
    asks = with_part("oauth", scope="read more")
    assert not breaking(tmp_path, lambda v: v.update(security=[{"oauth": ["read"]}]), asks)
    found = breaking(tmp_path, lambda v: None, with_part("oauth", scope="read write"))
    assert found == {("", "tokens are asked for with write, which the file no longer offers")}


def test_filters_inside_filters_are_spelt_out(tmp_path: Path) -> None:
    updated = {"updated": {"type": "object", "properties": {"gte": INSTANT, "lte": INSTANT}}}
    contract = with_part("parameters", updated_since="filter[updated][gte]", updated_until="filter[updated][lte]")
    assert breaking(tmp_path, deep(updated, []), contract) == set()
    assert breaking(tmp_path, lambda value: None, contract) != set()


def test_an_operation_takes_the_place_of_its_paths_object(tmp_path: Path) -> None:
    whole = {"name": "filter", "in": "query", "style": "deepObject", "schema": {"properties": FILTERS}}
    less = deep({"status": {}}, [])
    found = breaking(tmp_path, each(less, lambda v: v["paths"]["/bookings"].update(parameters=[whole])))
    assert ("bookings", "the parameter filter[updatedAfter] is not described") in found


def test_elements_of_lists_must_bring_what_is_read_of_them(tmp_path: Path) -> None:
    question: Json = {"id": {}, "label": {}, "value": {}}
    person: Json = {aliases[0]: {} for aliases in CONTRACT.streams["bookings"].participant_columns.values()}
    person["questions"] = {"type": "array", "items": {"properties": question}}

    def change(value: Json) -> None:
        attributes(value)["customers"] = {"type": "array", "items": {"properties": person}}
        del relationships(value)["customerBookings"]

    assert breaking(tmp_path, change) == set()
    question["reply"] = question.pop("value")
    assert breaking(tmp_path, change) == {("bookings", "questions is a list of objects without value or answer")}
    question.clear()
    question |= {"type": {}, "id": {}}  # identifiers: their resources are described elsewhere
    assert breaking(tmp_path, change) == set()


def test_one_participant_is_told_from_all_that_is_included(tmp_path: Path) -> None:
    person: Json = {aliases[0]: {} for aliases in CONTRACT.streams["bookings"].participant_columns.values()}
    others: Json = {"totalPrice": {"type": "object"}}

    def change(value: Json) -> None:
        of = {"customerBookings": person, "services": others}
        each = [{"properties": {"type": {"const": k}, "attributes": {"properties": a}}} for k, a in of.items()]
        links(value)["included"] = {"type": "array", "items": {"oneOf": each}}

    assert breaking(tmp_path, change) == set()
    others["notes"] = person.pop("notes")
    assert breaking(tmp_path, change) == {("bookings", "participants.notes has no attribute and would stay empty")}


def test_a_stream_of_the_contracts_own_is_compared_too(tmp_path: Path) -> None:
    intents = CONTRACT.streams["intent_events"].model_copy(update={"enabled": True})
    contract = CONTRACT.model_copy(update={"streams": {**CONTRACT.streams, "intent_events": intents}})
    assert breaking(tmp_path, lambda v: None, contract) == {("intent_events", "no list at intent-events")}

    def change(value: Json) -> None:
        value["paths"]["/intent-events"] = copy.deepcopy(value["paths"]["/bookings"])
        of_list = operation(value, "intent-events")["responses"]["200"]["content"]["application/vnd.api+json"]["schema"]
        of_list["properties"]["data"]["items"] = {
            "properties": {"type": {"const": "intentEvents"}, "attributes": {"properties": {"any": {}}}} | {
                "relationships": {"properties": {"account": LINKAGE}}
            }
        }  # fmt: skip

    assert breaking(tmp_path, change, contract) == set()


def test_the_command_ends_with_1_for_what_breaks_and_with_2_for_a_whole_address(tmp_path: Path) -> None:
    file, env = tmp_path / "api.json", {"APPOINTEDD_ENV_FILE": "", "APPOINTEDD_BASE_URL": BASE_URL}
    env |= {"APPOINTEDD_TOKEN_URL": TOKEN_URL, "APPOINTEDD_CLIENT_ID": "x", "APPOINTEDD_CLIENT_SECRET": "y"}
    value = copy.deepcopy(FITTING)
    put(attributes, startTime={"type": "string", "format": "date"})(value)
    file.write_text(json.dumps(value), encoding="utf-8")
    assert CliRunner().invoke(app, ["contract", "--openapi", str(file)], env=env).exit_code == 1
    value["paths"][f"{BASE_URL}/bookings"] = value["paths"].pop("/bookings")
    file.write_text(json.dumps(value), encoding="utf-8")
    for command in (["contract"], ["connect", "--dry-run"]):
        result = CliRunner().invoke(app, [*command, "--openapi", str(file)], env=env)
        assert result.exit_code == 2, result.output
        told = " ".join(result.output.split())
        assert f"the path '{BASE_URL}/bookings' is a whole address" in told
        assert "Write it as '/v2/bookings', with 'https://api.example.test' as its `servers`" in told


NO_SCHEMAS: list[Any] = [None, 0, -1, 1.5, True, "", "x", "object", "http://[::1", [], {}, [None], [[]], ["string"]]
JUNK = [*NO_SCHEMAS, {"$ref": "#/paths"}, {"$ref": 3}, {"type": []}, {"enum": {}}, {"items": True}, {"maximum": 1e999}]


@pytest.mark.long
def test_no_strange_file_ends_in_a_traceback(tmp_path: Path) -> None:
    seed = 20261123
    chance = random.Random(seed)
    for number in range(400):
        value: Any = copy.deepcopy(FITTING)
        for _ in range(chance.randint(1, 3)):
            holder: Any = value
            for _ in range(chance.randint(0, 12)):
                inner = list(holder.values()) if isinstance(holder, dict) else list(holder)
                deeper = [one for one in inner if isinstance(one, dict | list) and one]
                if not deeper:
                    break
                holder = chance.choice(deeper)
            key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder[key] = copy.deepcopy(chance.choice(JUNK))
        try:
            differences(tmp_path / "api.json", value, CONTRACT)
        except UsageError:
            pass
        except Exception as error:
            (tmp_path / "culprit.json").write_text(json.dumps(value), encoding="utf-8")
            raise AssertionError(f"seed {seed}, file {number}, kept as culprit.json") from error
