"""The vendor's OpenAPI 3 file, read into a small plain model: list endpoints, their parameters and records, security, servers.

What lives here: reading (JSON or YAML, a path or an address), `$ref`s through jsonschema-path, and the shapes of schemas. What does not: what any of it
means for the sync (`pipelines.connect`). References are followed inside the file only, so that a description names neither a file of this machine nor
another host.
Errors: `UsageError` with the place in the file and the cure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import yaml
from jsonschema_path import SchemaPath
from referencing.exceptions import Unresolvable

from resources.errors import UsageError

MOST_BYTES = 30_000_000
TIMEOUT_S = 60.0
# How far shapes are followed: a list document down to the members of an object inside an attribute. Schemas may be endless.
DEEPEST = 9
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Shape:
    """What values a schema lets through. `types` are JSON types without null; `words` the enumerated values as text; `members` those of an object."""

    types: frozenset[str] = frozenset()
    format: str | None = None
    words: tuple[str, ...] = ()
    members: Mapping[str, Shape] = field(default_factory=dict)
    items: Shape | None = None
    maximum: int | None = None

    def at(self, *names: str) -> Shape:
        """The shape of a member of a member; an empty one where the schema does not name it."""
        shape = self
        for name in names:
            shape = shape.members.get(name, EMPTY)
        return shape


EMPTY = Shape()


@dataclass(frozen=True)
class Parameter:
    """One query parameter, as it stands in an address: `filter[updatedAfter]` also where the file spells it as a deep object."""

    name: str
    shape: Shape
    is_required: bool = False


@dataclass(frozen=True)
class ListEndpoint:
    """A GET whose answer holds an array under `data`. `path` as in the file; `document` is the whole answer's shape, `record` one element's."""

    path: str
    parameters: tuple[Parameter, ...]
    document: Shape
    record: Shape
    media_types: tuple[str, ...]
    has_single: bool

    def parameter(self, name: str) -> Parameter | None:
        """A parameter by its name."""
        return next((p for p in self.parameters if p.name == name), None)


@dataclass(frozen=True)
class Description:
    """What an OpenAPI file says, as far as a sync is concerned. Addresses are absolute where the file allows it; None and empty where it is silent."""

    source: str
    title: str
    version: str
    servers: tuple[str, ...]
    token_url: str | None
    client_authentication: str | None
    scopes: tuple[str, ...]
    lists: tuple[ListEndpoint, ...]


def read_description(source: str) -> Description:
    """Read an OpenAPI 3 file from a path or an https address; raises `UsageError`."""
    text, base = _text(source)
    value = _value(text, source)
    version = value.get("openapi")
    if not isinstance(version, str) or not version.startswith("3."):
        raise UsageError(
            f"{source} is not an OpenAPI 3 file: its member `openapi` is {version!r} where 3.x is due. "
            f"Take the OpenAPI link from the vendor's introduction to V2."
        )
    if not isinstance(value.get("paths"), dict) or not value["paths"]:
        raise UsageError(f"{source} describes no paths, so there is nothing to learn from it.")
    try:
        return _described(SchemaPath.from_dict(value, handlers={}), source, base)
    except Unresolvable as error:
        raise UsageError(
            f"{source}: the reference {str(error.ref)!r} leads nowhere inside the file. Give it as one bundled file, as the vendor publishes it."
        ) from None
    except RecursionError:
        raise UsageError(f"{source}: a reference leads in a circle, so the file cannot be read.") from None
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"{source} is not built as OpenAPI 3 asks: {type(error).__name__}: {error}.") from None


# Text


def _text(source: str) -> tuple[str, str]:
    """The file's text, and the address that relative ones in it start from."""
    if not re.match(r"https?://", source):
        try:
            return Path(source).read_text(encoding="utf-8-sig"), ""
        except (OSError, UnicodeDecodeError) as error:
            told = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"{source} cannot be read: {told}. Give the path or the https address of it.") from None
    _must_be_safe(source)
    request = Request(source, headers={"User-Agent": "appointedd-warehouse"})  # noqa: S310  http(s) only, see above
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  as above; no secret is sent
            _must_be_safe(answer.url)
            body = answer.read(MOST_BYTES + 1)
            base = answer.url
    except (URLError, OSError, ValueError) as error:
        raise UsageError(f"{source} cannot be fetched: {error}. Save the file and give its path.") from None
    if len(body) > MOST_BYTES:
        raise UsageError(f"{source} is longer than {MOST_BYTES:,} bytes, which no OpenAPI file of this API is.")
    return body.decode("utf-8-sig", errors="replace"), base


def _must_be_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise UsageError(f"{url} is plain http, which is accepted for this machine only; use https, or give a file.")


def _value(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark is not None else ""
            raise UsageError(
                f"{source} is neither JSON nor YAML{place}; is it a web page instead of the file, or holds it a date that does not exist?"
            ) from None
    except (RecursionError, ValueError):
        raise UsageError(f"{source} holds a nesting or a number beyond all measure.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{source} holds no object, so it is no OpenAPI file; is it a web page instead?")
    return value


# Structure


def _described(root: SchemaPath, source: str, base: str) -> Description:
    servers = tuple(urljoin(base, s) for s in (_server(node) for node in _list(root, "servers")) if s)
    token_url, scopes = _flow(root)
    if token_url is not None and servers and not urlsplit(token_url).scheme:
        token_url = urljoin(servers[0] + "/", token_url)  # OpenAPI lets it be relative
    paths, shapes = root / "paths", _Shapes()
    return Description(
        source=source,
        title=_word(root, "info", "title"),
        version=_word(root, "info", "version"),
        servers=servers,
        token_url=token_url,
        client_authentication=_client_authentication(paths, token_url, shapes),
        scopes=scopes,
        lists=tuple(_lists(paths, shapes)),
    )


def _server(node: SchemaPath) -> str:
    """A server's address with the defaults of its variables put in."""
    url = _word(node, "url").rstrip("/")
    for name, variable in _children(_child(node, "variables")):
        url = url.replace("{" + name + "}", _word(variable, "default"))
    return "" if "{" in url else url


def _flow(root: SchemaPath) -> tuple[str | None, tuple[str, ...]]:
    """Token address and scopes of the client-credentials flow."""
    for _, scheme in _children(_child(root, "components", "securitySchemes")):
        flow = _child(scheme, "flows", "clientCredentials")
        if flow is not None:
            scopes = tuple(name for name, _ in _children(_child(flow, "scopes")))
            return _word(flow, "tokenUrl") or None, scopes
    return None, ()


def _client_authentication(paths: SchemaPath, token_url: str | None, shapes: _Shapes) -> str | None:
    """`post` or `basic`, where the token endpoint itself is described; OpenAPI's security schemes have no word for it."""
    for path, item in _children(paths):
        operation = _child(item, "post")
        if operation is None or token_url is None or not urlsplit(token_url).path.endswith(path):
            continue
        for _, body in _children(_child(operation, "requestBody", "content")):
            if "client_secret" in shapes.of(_child(body, "schema")).members:
                return "post"
        return "basic"
    return None


def _lists(paths: SchemaPath, shapes: _Shapes) -> Iterator[ListEndpoint]:
    named = dict(_children(paths))
    for path, item in named.items():
        operation = _child(item, "get")
        if operation is None or "{" in path:
            continue
        media = dict(_answer(operation, shapes))
        document = next((s for s in media.values() if s.at("data").items is not None), None)
        if document is None:
            continue
        single = re.compile(re.escape(path.rstrip("/")) + r"/\{[^/]+\}/?")
        yield ListEndpoint(
            path=path,
            parameters=tuple(_parameters(item, operation, shapes)),
            document=document,
            record=document.at("data").items or EMPTY,
            media_types=tuple(media),
            has_single=any(single.fullmatch(p) and _child(i, "get") is not None for p, i in named.items()),
        )


def _answer(operation: SchemaPath, shapes: _Shapes) -> Iterator[tuple[str, Shape]]:
    """Media type → shape of the answer to a GET that went well."""
    for status, response in _children(_child(operation, "responses")):
        if not str(status).startswith("2"):
            continue
        for media_type, content in _children(_child(response, "content")):
            yield media_type.partition(";")[0].strip(), shapes.of(_child(content, "schema"))
        return


def _parameters(item: SchemaPath, operation: SchemaPath, shapes: _Shapes) -> Iterator[Parameter]:
    found: dict[str, Parameter] = {}
    for node in (*_list(item, "parameters"), *_list(operation, "parameters")):
        if _word(node, "in") != "query":
            continue
        name, shape = _word(node, "name"), shapes.of(_child(node, "schema"))
        is_required = bool(_raw(node, "required"))
        if (
            shape.members
        ):  # a deep object: filter → filter[updatedAfter]; JSON:API files leave out the style as often as not
            for member, inner in shape.members.items():
                found[f"{name}[{member}]"] = Parameter(f"{name}[{member}]", inner)
        else:
            found[name] = Parameter(name, shape, is_required)
    yield from found.values()


# Schemas


class _Shapes:
    """Shapes by schema. Schemas that lead back to themselves would otherwise grow without end: each is made once for each depth."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], Shape] = {}

    def of(self, node: SchemaPath | None, depth: int = 0) -> Shape:
        """The shape of one schema; an empty one where there is none."""
        if node is None or depth > DEEPEST:
            return EMPTY
        value = _value_of(node)
        if not isinstance(value, dict):
            return EMPTY
        key = (id(value), depth)
        if key not in self._made:
            self._made[key] = self._shape(node, depth)
        return self._made[key]

    def _shape(self, node: SchemaPath, depth: int) -> Shape:
        types = _raw(node, "type")
        names = {types} if isinstance(types, str) else {t for t in types if isinstance(t, str)} if types else set()
        words = [str(v) for v in _raw(node, "enum") or () if v is not None]
        constant = _raw(node, "const")
        maximum = _raw(node, "maximum")
        text_format = _raw(node, "format")
        items = _child(node, "items")
        shape = Shape(
            types=frozenset(names - {"null"}),
            format=text_format if isinstance(text_format, str) else None,
            words=tuple(words) if constant is None else (str(constant),),
            members={name: self.of(inner, depth + 1) for name, inner in _children(_child(node, "properties"))},
            items=self.of(items, depth + 1) if items is not None else None,
            maximum=maximum if isinstance(maximum, int) and not isinstance(maximum, bool) else None,
        )
        for keyword in ("allOf", "oneOf", "anyOf"):
            for part in _list(node, keyword):
                shape = _both(shape, self.of(part, depth + 1))
        return shape


def _both(one: Shape, other: Shape) -> Shape:
    """Two schemas of one value, put together generously: what is described here says what may come, it refuses nothing."""
    members = dict(one.members)
    for name, shape in other.members.items():
        members[name] = _both(members[name], shape) if name in members else shape
    return Shape(
        types=one.types | other.types,
        format=one.format or other.format,
        words=tuple(dict.fromkeys((*one.words, *other.words))),
        members=members,
        items=other.items if one.items is None else one.items if other.items is None else _both(one.items, other.items),
        maximum=one.maximum if one.maximum is not None else other.maximum,
    )


# The file as jsonschema-path gives it: every step follows `$ref`s


def _child(node: SchemaPath | None, *names: str) -> SchemaPath | None:
    for name in names:
        if node is None or not isinstance(_value_of(node), dict) or name not in node:
            return None
        node = node / name
    return node


def _value_of(node: SchemaPath) -> Any:
    with node.open() as value:
        return value


def _children(node: SchemaPath | None) -> Iterator[tuple[str, SchemaPath]]:
    if node is not None and isinstance(_value_of(node), dict):
        for name in list(node.keys()):
            yield str(name), node / name


def _list(node: SchemaPath, name: str) -> list[SchemaPath]:
    inner = _child(node, name)
    return list(inner) if inner is not None and isinstance(_value_of(inner), list) else []


def _raw(node: SchemaPath, name: str) -> Any:
    inner = _child(node, name)
    return None if inner is None else _value_of(inner)


def _word(node: SchemaPath, *names: str) -> str:
    inner = _child(node, *names)
    value = None if inner is None else _value_of(inner)
    return value if isinstance(value, str) else ""
