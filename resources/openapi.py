"""The vendor's OpenAPI 3 file, read into a small plain model: list endpoints, their parameters and records, security, servers.

What lives here: paths, parameters, servers, security, with `$ref`s followed through jsonschema-path. What does not: fetching and decoding
(`openapi_source`), the shapes of schemas (`schemas`), and what any of it means for the sync (`pipelines.connect`). References are followed inside the
file only, so that a description names neither a file of this machine nor another host.
Errors: `UsageError` with the place in the file and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from jsonschema_path import SchemaPath
from referencing.exceptions import Unresolvable

from resources.errors import UsageError
from resources.openapi_source import text_of, value_of_text
from resources.schemas import EMPTY, Shape, Shapes, child, children, heed_siblings, list_at, raw, word

# How deep an object among the parameters is spelt out: filter[updated][gte] and one more.
DEEPEST_PARAMETER = 3
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Server:
    """A server's address with the defaults of its variables put in; without a host where the file gives none. `form`: all that its variables allow."""

    url: str
    form: str

    def is_at(self, address: str) -> bool:
        """Whether an address is this server's, whatever its variables are; by its path alone where the file names no host."""
        known = comparable(address)
        return re.fullmatch(self.form, known if urlsplit(self.url).netloc else urlsplit(known).path) is not None


@dataclass(frozen=True)
class Parameter:
    """One parameter as it is sent: in an address `filter[updatedAfter]`, also where the file spells it as a deep object.

    `place`: query, header or cookie. `holder`: the object that it is a member of, and `also` its name where that object is sent member by member.
    `is_required`: it must always be there, `is_required_beside`: wherever another member of `holder` is. `is_open`: an object with members of any name.
    """

    name: str
    shape: Shape
    is_required: bool = False
    place: str = "query"
    holder: str = ""
    also: str = ""
    is_required_beside: bool = False
    is_open: bool = False


@dataclass(frozen=True)
class Need:
    """One way of being let in: the OAuth scopes that it asks for, and the schemes besides OAuth (an API key, …)."""

    scopes: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListEndpoint:
    """A GET whose answer holds an array under `data`. `path` as in the file; `document` is the whole answer's shape, `record` one element's.

    `parameters` stand in the address, `elsewhere` in headers and cookies. `servers`: its own, where it has any. `needs`: any of them lets in; none
    where the file asks for nothing. `answer_headers`: the headers that its answer is said to carry, in small letters.
    """

    path: str
    parameters: tuple[Parameter, ...]
    document: Shape
    record: Shape
    media_types: tuple[str, ...]
    has_single: bool
    elsewhere: tuple[Parameter, ...] = ()
    servers: tuple[Server, ...] = ()
    needs: tuple[Need, ...] = ()
    answer_headers: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """A parameter by its name in the address; one of any shape where the file lets an object have members of any name."""
        for one in self.parameters:
            if name in (one.name, one.also) and not (one.is_open and one.shape.types == {"object"}):
                return one
        opened = next((p for p in self.parameters if p.is_open and name.startswith(p.name + "[")), None)
        return opened and Parameter(name, EMPTY, holder=opened.name)


@dataclass(frozen=True)
class Description:
    """What an OpenAPI file says, as far as a sync is concerned. Addresses are absolute where the file allows it; None and empty where it is silent."""

    source: str
    title: str
    version: str
    servers: tuple[Server, ...]
    token_url: str | None
    client_authentication: str | None
    scopes: tuple[str, ...]
    lists: tuple[ListEndpoint, ...]


def read_description(source: str) -> Description:
    """Read an OpenAPI 3 file from a path or an https address; raises `UsageError`."""
    text, base = text_of(source)
    value = value_of_text(text, source)
    version = value.get("openapi")
    if not isinstance(version, str) or not version.startswith("3."):
        raise UsageError(
            f"{source} is not an OpenAPI 3 file: its member `openapi` is {version!r} where 3.x is due. "
            f"Take the OpenAPI link from the vendor's introduction to V2."
        )
    if not isinstance(value.get("paths"), dict) or not value["paths"]:
        raise UsageError(f"{source} describes no paths, so there is nothing to learn from it.")
    try:
        if not version.startswith("3.0"):
            heed_siblings(value)
        return _described(SchemaPath.from_dict(value, handlers={}), source, base)
    except Unresolvable as error:
        raise UsageError(
            f"{source}: the reference {str(error.ref)!r} leads nowhere inside the file. Give it as one bundled file, as the vendor publishes it."
        ) from None
    except RecursionError:
        raise UsageError(f"{source}: a reference leads in a circle, so the file cannot be read.") from None
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"{source} is not built as OpenAPI 3 asks: {type(error).__name__}: {error}.") from None


def comparable(address: str) -> str:
    """An address in one spelling: small letters in scheme and host, no default port, no slash at the end; raises ValueError where it is none."""
    parts = urlsplit(address)
    port, host = parts.port, (parts.hostname or "")
    host = f"[{host}]" if ":" in host else host
    shown = f":{port}" if port is not None and port != DEFAULT_PORTS.get(parts.scheme) else ""
    start = f"{parts.scheme}://{host}{shown}" if parts.netloc else ""
    return start + parts.path.rstrip("/")


def _described(root: SchemaPath, source: str, base: str) -> Description:
    servers = _servers(root, base)
    used = _Security(root)
    token_url = used.token_url
    if token_url is not None:
        if servers and not urlsplit(token_url).scheme:
            token_url = urljoin(servers[0].url + "/", token_url)  # OpenAPI lets it be relative
        comparable(token_url)
    paths, shapes = root / "paths", Shapes()
    return Description(
        source=source,
        title=word(root, "info", "title"),
        version=word(root, "info", "version"),
        servers=servers,
        token_url=token_url,
        client_authentication=_client_authentication(paths, token_url, shapes, used),
        scopes=used.scopes,
        lists=tuple(_lists(paths, shapes, used, source, base)),
    )


# Servers


def _servers(node: SchemaPath, base: str) -> tuple[Server, ...]:
    found = (_server(one, base) for one in list_at(node, "servers"))
    return tuple(server for server in found if server is not None)


def _server(node: SchemaPath, base: str) -> Server | None:
    """A server; None where a variable has no default, so that nobody can tell the address."""
    url = pattern = word(node, "url").rstrip("/")
    marks: dict[str, str] = {}
    for number, (name, variable) in enumerate(children(child(node, "variables"))):
        value = raw(variable, "default")
        default = "" if value is None else str(value)
        words = [str(w) for w in raw(variable, "enum") or ()]
        mark = f"variable{number}x" if not pattern.partition("{" + name + "}")[0].endswith(":") else str(61000 + number)
        marks[mark] = "|".join(map(re.escape, {*words, default})) if words else ".*" if "/" in default else "[^/]*"
        url, pattern = url.replace("{" + name + "}", default), pattern.replace("{" + name + "}", mark)
    if not url or "{" in url:
        return None
    url, form = urljoin(base, url), re.escape(comparable(urljoin(base, pattern)))
    comparable(url)  # raises ValueError where it is no address
    for mark, choices in marks.items():
        form = form.replace(mark, f"(?:{choices})")
    return Server(url.rstrip("/"), form)


# Security


class _Security:
    """The file's security schemes: where tokens come from, and what an operation asks for."""

    def __init__(self, root: SchemaPath) -> None:
        self._root = root
        self._schemes = dict(children(child(root, "components", "securitySchemes")))
        self._named = _names(raw(root, "security"))
        for _, item in children(child(root, "paths")):
            self._named |= _names(raw(child(item, "get"), "security"))
        every = {n: child(s, "flows", "clientCredentials") for n, s in self._schemes.items()}
        flows = {n: flow for n, flow in every.items() if flow is not None}
        flow = next((flow for n, flow in flows.items() if n in self._named), next(iter(flows.values()), None))
        self.token_url = word(flow, "tokenUrl") or None
        self.scopes = tuple(n for n, _ in children(child(flow, "scopes")))

    def needs(self, operation: SchemaPath) -> tuple[Need, ...]:
        """The ways of being let in; none where anybody is."""
        asked = raw(operation, "security")
        asked = raw(self._root, "security") if asked is None else asked
        ways = [way for way in asked if isinstance(way, dict)] if isinstance(asked, list) else []
        return () if any(not way for way in ways) else tuple(self._need(way) for way in ways)

    def _need(self, way: Mapping[str, Any]) -> Need:
        scopes: set[str] = set()
        others = []
        for name, wanted in way.items():
            scheme = self._schemes.get(str(name))
            kind = word(scheme, "type")
            is_other_http = kind == "http" and word(scheme, "scheme").lower() != "bearer"
            if kind == "oauth2":
                scopes |= {s for s in wanted if isinstance(s, str)} if isinstance(wanted, list) else set()
            elif kind in ("apiKey", "mutualTLS") or is_other_http:
                others.append(str(name))
        return Need(frozenset(scopes), tuple(others))

    def has_basic(self, operation: SchemaPath) -> bool:
        """Whether an operation may be asked with a client's id and secret as HTTP Basic."""
        schemes = [self._schemes[n] for n in _names(raw(operation, "security")) if n in self._schemes]
        return any(word(s, "type") == "http" and word(s, "scheme").lower() == "basic" for s in schemes)


def _names(security: object) -> set[str]:
    ways = security if isinstance(security, list) else []
    return {str(name) for way in ways if isinstance(way, dict) for name in way}


def _client_authentication(paths: SchemaPath, token_url: str | None, shapes: Shapes, security: _Security) -> str | None:
    """`post` or `basic`, where the token endpoint itself is described and takes one of them only; OpenAPI's security schemes have no word for it."""
    for path, item in children(paths):
        operation = child(item, "post")
        if operation is None or token_url is None or not urlsplit(token_url).path.endswith(urlsplit(path).path):
            continue
        for _, body in children(child(operation, "requestBody", "content")):
            if "client_secret" in shapes.of(child(body, "schema")).members:
                return None if security.has_basic(operation) else "post"
        return "basic"
    return None


# Lists


def _lists(paths: SchemaPath, shapes: Shapes, security: _Security, source: str, base: str) -> Iterator[ListEndpoint]:
    named = dict(children(paths))
    for path, item in named.items():
        operation = child(item, "get")
        if operation is None or "{" in path:
            continue
        answer = _answer(operation)
        media = {
            media_type.partition(";")[0].strip(): shapes.of(child(one, "schema"))
            for media_type, one in children(child(answer, "content"))
        }
        document = next((s for s in media.values() if s.at("data").items is not None), None)
        if document is None:
            continue
        if urlsplit(path).netloc:
            _refuse_address(path, source)
        single = re.compile(re.escape(path.rstrip("/")) + r"/\{[^/]+\}/?")
        parameters = tuple(_parameters(item, operation, shapes))
        yield ListEndpoint(
            path=path,
            parameters=tuple(p for p in parameters if p.place == "query"),
            document=document,
            record=document.at("data").items or EMPTY,
            media_types=tuple(media),
            has_single=any(single.fullmatch(p) and child(i, "get") is not None for p, i in named.items()),
            elsewhere=tuple(p for p in parameters if p.place in ("header", "cookie")),
            servers=_servers(operation, base) or _servers(item, base),
            needs=security.needs(operation),
            answer_headers=tuple(name.lower() for name, _ in children(child(answer, "headers"))),
        )


def _refuse_address(path: str, source: str) -> None:
    parts = urlsplit(path)
    start = path[: path.index(parts.netloc) + len(parts.netloc)]
    raise UsageError(
        f"{source}: the path {path!r} is a whole address, where OpenAPI wants what comes behind the server's. Write it as {parts.path or '/'!r}, "
        f"with {start!r} as its `servers`, or ask the vendor to."
    )


def _answer(operation: SchemaPath) -> SchemaPath | None:
    """The answer to a GET that went well; that of any status, where it is the only one."""
    every = {status.upper(): response for status, response in children(child(operation, "responses"))}
    good = sorted(status for status in every if status.startswith("2"))
    return every.get("200" if "200" in every else "2XX" if "2XX" in every else good[0] if good else "DEFAULT")


# Parameters


def _parameters(item: SchemaPath, operation: SchemaPath, shapes: Shapes) -> Iterator[Parameter]:
    # An operation's parameter takes the place of its path's by name and place, before objects are spelt out.
    nodes = {
        (word(node, "in"), word(node, "name")): node
        for node in (*list_at(item, "parameters"), *list_at(operation, "parameters"))
    }
    found: dict[tuple[str, str], Parameter] = {}
    for (place, name), node in nodes.items():
        is_required = raw(node, "required") is True
        parameter = Parameter(name, shapes.of(child(node, "schema")), is_required, place)
        is_flat = place != "query" or (child(node, "schema") is None and child(node, "content") is not None)
        style = word(node, "style")
        for one in [parameter] if is_flat else _spelt_out(parameter, style, DEEPEST_PARAMETER):
            found.setdefault((place, one.name), one)
    yield from found.values()


def _spelt_out(parameter: Parameter, style: str, depth: int) -> Iterator[Parameter]:
    """A deep object member by member: filter → filter[updatedAfter]; JSON:API files leave out the style as often as not."""
    shape = parameter.shape
    is_object = bool(shape.members) or shape.types == {"object"} or style == "deepObject"
    if not is_object or depth == 0:
        yield parameter
        return
    if shape.has_more or not shape.members or shape.types - {"object"}:
        yield replace(parameter, is_open=shape.has_more or not shape.members)
    for member, inner in shape.members.items():
        must = member in shape.required
        one = Parameter(
            f"{parameter.name}[{member}]",
            inner,
            is_required=parameter.is_required and must,
            holder=parameter.name,
            also="" if style == "deepObject" else member,
            is_required_beside=must,
        )
        yield from _spelt_out(one, style or "deepObject", depth - 1)
