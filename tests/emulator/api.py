"""Answers GET requests under /v2: routing, media types, lists, single records. Sockets, faults and rate limits live elsewhere."""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast
from urllib.parse import quote

from .entities import Booking, Record
from .listing import Page, Selection
from .messages import ApiError, Request, Response
from .oauth import authenticated_client
from .query import Query, QueryReader, encode_cursor
from .render import Renderer
from .state import State
from .switches import Switches
from .tables import Key, Table

ROOT = "/v2"
VND = "application/vnd.api+json"
_HEAD = b'{"jsonapi":{"version":"1.1"},"links":'


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    """A part of a query string; the same few come again on every page."""
    return quote(text, safe=",")


def _check_media_types(request: Request) -> None:
    """JSON:API 1.1: no Content-Type on a GET, and at least one acceptable media type without parameters."""
    if "content-type" in request.headers:
        raise ApiError(415, "unsupported_media_type", "A GET has no body and so no Content-Type.")
    accept = request.headers.get("accept")
    if accept is None:
        return
    for choice in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in choice.split(";"))
        if media_type in ("*/*", "application/*", "application/json"):
            return
        if media_type == VND and all(one.startswith(("q=", "profile=")) for one in parameters):
            return
    raise ApiError(406, "not_acceptable", "No acceptable media type, or only with parameters that are not supported.")


def _put(document: dict[str, object], dotted: str, value: object) -> None:
    """Put a value at a dotted path."""
    *holders, name = dotted.split(".")
    for holder in holders:
        document = cast("dict[str, object]", document.setdefault(holder, {}))
    document[name] = value


class Api:
    """The API of a world in one dialect; to be used under the world's lock."""

    def __init__(self, world: State, switches: Switches, origin: str) -> None:
        self._world, self._switches = world, switches
        self._renderer = Renderer(world, switches, origin)
        self._reader = QueryReader(switches, world.accounts)
        self._media_type = VND if switches.media_type == "vnd" else "application/json"
        tables = {
            "accounts": world.accounts,
            "customers": world.customers,
            "bookings": world.bookings,
            "events": world.events,
            "intentEvents": world.intent_events,
        }
        # They are only read here, so that a table of bookings may pass for one of records.
        self.link_header = ""
        self._tables = {
            switches.naming.path(stream): (stream, cast("Table[Record]", table)) for stream, table in tables.items()
        }
        self._totals: dict[str, tuple[int, int]] = {}
        self._ids: dict[str, tuple[int, dict[str, str]]] = {}

    def answer(self, request: Request) -> Response:
        """The response to a request; errors become error documents."""
        self.link_header = ""
        try:
            body = self._body(request)
        except ApiError as error:
            return Response(error.status, error.body(), {"Content-Type": self._media_type, **error.headers})
        headers = {"Content-Type": self._media_type, "Link": self.link_header}
        if self._switches.rate_headers:
            headers |= {"X-RateLimit-Limit": "300", "X-RateLimit-Remaining": "287", "X-RateLimit-Reset": "41"}
        return Response(200, body, headers)

    def _body(self, request: Request) -> bytes:
        if request.method != "GET":
            raise ApiError(405, "method_not_allowed", "This API is read only.", headers={"Allow": "GET"})
        client_id = authenticated_client(self._world, request)
        path, *rest = request.path.removeprefix(ROOT + "/").split("/")
        if path not in self._tables or len(rest) > 2:
            raise ApiError(404, "not_found", "There is no such resource.")
        _check_media_types(request)
        stream, table = self._tables[path]
        visible = self._world.visible_accounts(client_id)
        if not rest:
            return self._list(request, client_id, stream, table, visible)
        record = self._found(stream, table, rest[0])
        if record is None or (visible is not None and record.account_id not in visible):
            raise ApiError(404, "not_found", "There is no such resource.")
        if len(rest) == 2:
            return self._related(request, stream, record, rest[1])
        query = self._reader.read(stream, request.pairs, single=True)
        links = self._renderer.encode({"self": self._renderer.link(request.target)})
        row = self._renderer.rows([record], query.fields)
        return b"".join((_HEAD, links, b',"data":', row, *self._included([record], query), b"}"))

    def _found(self, stream: str, table: Table[Record], record_id: str) -> Record | None:
        if self._switches.ids == "hex":
            return table.get(record_id)
        made_at, ids = self._ids.get(stream, (-1, {}))
        if made_at != self._world.version:
            ids = {str(self._switches.shown_id(one.id)): one.id for one in table}
            self._ids[stream] = self._world.version, ids
        return table.get(ids.get(record_id, ""))

    def _related(self, request: Request, stream: str, record: Record, name: str) -> bytes:
        """The participants of one booking: the one related collection, served because `linkage_only` links to it."""
        naming = self._switches.naming
        if not isinstance(record, Booking) or name != naming.relationship("customerBookings"):
            raise ApiError(404, "not_found", "There is no such resource.")
        if self._switches.participants != "included":
            raise ApiError(404, "not_found", "There is no such resource.")
        self._reader.read(stream, request.pairs, single=True)
        links = self._renderer.encode({"self": self._renderer.link(request.target)})
        return b"".join((_HEAD, links, b',"data":[', self._renderer.participants([record]), b"]}"))

    def _included(self, rows: Sequence[Record], query: Query) -> tuple[bytes, ...]:
        if not query.include:
            return ()
        return b',"included":[', self._renderer.included(rows, query.include, query.fields), b"]"

    def _list(
        self, request: Request, client_id: str, stream: str, table: Table[Record], visible: set[str] | None
    ) -> bytes:
        query = self._reader.read(stream, request.pairs)
        hide_cancelled = stream in ("bookings", "events") and not self._switches.cancelled_in_default_list
        selection = Selection(table, query, visible, hide_cancelled=hide_cancelled)
        page = selection.page()
        renderer = self._renderer
        links = self._links(request, query, page)
        others: dict[str, object] = {}
        if self._switches.meta_total == "present":
            _put(others, self._switches.total_in, self._total(request, client_id, selection))
        if self._switches.next_in != "links.next":
            following = links.pop("next")
            links.pop("prev")
            if self._switches.next_in == "header":
                self.link_header = f'<{following}>; rel="next"' if following else ""
            else:
                _put(others, self._switches.next_in, following)
        parts = [_HEAD, renderer.encode(links), b',"data":[', renderer.rows(page.rows, query.fields), b"]"]
        parts += self._included(page.rows, query)
        parts += [b",%b:%b" % (renderer.encode(name), renderer.encode(value)) for name, value in others.items()]
        parts.append(b"}")
        return b"".join(parts)

    def _total(self, request: Request, client_id: str, selection: Selection[Record]) -> int:
        """Counting walks everything, so a count is kept until the world changes."""
        pairs = [pair for pair in request.pairs if pair[0] not in self._reader.paging_names]
        asked = f"{client_id} {request.path} {pairs}"
        kept = self._totals.get(asked)
        if kept is None or kept[0] != self._world.version:
            self._totals.clear()
            kept = self._totals[asked] = (self._world.version, selection.total())
        return kept[1]

    def _links(self, request: Request, query: Query, page: Page[Record]) -> dict[str, object]:
        next_link: object = None
        previous: object = None
        if self._switches.paging == "cursor":
            next_link = self._cursor_link(request, query, "page[after]", page.next_key)
            previous = self._cursor_link(request, query, "page[before]", page.previous_key)
        else:
            name, place = "page[offset]", query.skip + query.size
            if self._switches.paging == "number":
                name, place = "page[number]", query.skip // query.size + 2
            if page.more:
                next_link = self._page_link(request, name, str(place))
            if query.skip:
                back = query.skip // query.size if name == "page[number]" else max(query.skip - query.size, 0)
                previous = self._page_link(request, name, str(back))
        return {"self": self._renderer.link(request.target), "next": next_link, "prev": previous}

    def _cursor_link(self, request: Request, query: Query, name: str, key: Key | None) -> object:
        return None if key is None else self._page_link(request, name, encode_cursor(query.sort, key))

    def _page_link(self, request: Request, name: str, value: str) -> object:
        """The address of the request with another place in the list."""
        reader = self._reader
        pairs = [pair for pair in request.pairs if pair[0] not in reader.paging_names]
        texts = [f"{_quoted(key)}={_quoted(one)}" for key, one in pairs]
        texts.append(f"{_quoted(reader.name(name))}={value}")
        return self._renderer.link(f"{request.path}?{'&'.join(texts)}")
