"""How one API client talks to its API: a request gets a token, waits for its turn, is repeated where that helps, is counted, and ends when its run is stopped.

What lives here: the way from an address to an answer that can be read. What does not: tokens (`oauth`), the rules of repeating (`retries`), bytes
(`connections`), what is asked for and what an answer says (`appointedd`, `pages`). It only reads: GET here, POST to the token endpoint in `oauth`, nothing
else. Redirects are not followed. Sources: RFC 9110, evidence section 6.2.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import httpx

from resources.answers import named_parameters, told_by
from resources.connections import (
    CERTIFICATE_CURE,
    MOST_BYTES,
    MOST_TOKEN_BYTES,
    TIMEOUT,
    VALIDITY_CURE,
    Connections,
    go_on,
    whole,
)
from resources.contract import Contract
from resources.errors import BrokenAnswerError
from resources.links import Links, shown_origin
from resources.oauth import ClientCredentials
from resources.rate import RateBudget, pause
from resources.retries import ATTEMPTS, TroubleError, backoff_s, judge, may_pass, retry_after_s
from resources.settings import ClientSettings, Settings

log = logging.getLogger(__name__)

Query = Mapping[str, str]
T = TypeVar("T")


@dataclass
class Traffic:
    """What talking to the API has cost, counted by many threads. `answering_s`: seconds until answers came; `waited_s`: seconds spent waiting for a turn."""

    requests: int = 0
    retries: int = 0
    answering_s: float = 0.0
    waited_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, more: Traffic) -> None:
        """Count more of it."""
        with self.lock:
            self.requests += more.requests
            self.retries += more.retries
            self.answering_s += more.answering_s
            self.waited_s += more.waited_s


class _OfThread(threading.local):
    """What each thread has of its own: the event that ends its requests, and where they are counted beside the whole."""

    stopped: threading.Event | None = None
    traffic: Traffic | None = None


class Exchange:
    """What one OAuth API client sends and gets. Many threads may use it. Close it.

    `links` are the addresses of its API, `hide` takes its secrets out of a text that is to be quoted.
    """

    def __init__(self, client: ClientSettings, settings: Settings, contract: Contract) -> None:
        access = settings.api_access()
        self.traffic = Traffic()
        self.rate = RateBudget(settings.sync_requests_per_second)
        self.links = Links(access.base_url + "/")
        self._own = _OfThread()
        # The environment's proxy is for https only: plain http stays on this machine (settings refuse anything else).
        self._connections = Connections(
            timeout=TIMEOUT,
            trust_env=self.links.is_encrypted,
            follow_redirects=False,
            headers={
                "Accept": contract.http.media_type,
                "Accept-Encoding": "gzip, deflate",
                # A sweep asks for the same addresses each time: what a cache on the way kept of the last one is not how things are.
                "Cache-Control": "no-cache",
                "User-Agent": "appointedd-warehouse",
            },
        )
        # The token request is built without these headers: it must not carry the list's Accept.
        self._auth = ClientCredentials(client, access.token_url, contract.oauth, partial(self._send, auth=None))
        self.hide = self._auth.hide

    def close(self) -> None:
        """Close the connections that nobody sends on."""
        self._connections.close()

    @contextmanager
    def until(self, stopped: threading.Event) -> Iterator[None]:
        """In this thread, for the length of a `with`: once `stopped` is set every wait ends, and nothing more is sent or read (`StoppedError`)."""
        self._own.stopped = stopped
        try:
            yield
        finally:
            self._own.stopped = None

    @contextmanager
    def counting(self, traffic: Traffic) -> Iterator[None]:
        """In this thread, for the length of a `with`: requests are counted in `traffic` too, in place of the one that was named before."""
        before, self._own.traffic = self._own.traffic, traffic
        try:
            yield
        finally:
            self._own.traffic = before

    def _count(self, more: Traffic) -> None:
        self.traffic.add(more)
        if self._own.traffic is not None:
            self._own.traffic.add(more)

    def busy(self, most: int) -> int:
        """How many requests side by side, `most` at the most, this pace can keep busy: one is enough where an answer comes before the next may be sent."""
        traffic = self.traffic
        if not traffic.requests:
            return most
        return max(1, min(most, 1 + int(self.rate.per_second * traffic.answering_s / traffic.requests)))

    def get(self, url: str, query: Query | None, read: Callable[[httpx.Response], T], *, is_any: bool = False) -> T:
        """What `read` makes of the answer to one GET, which is repeated as `retries.judge` says, also where `read` raises `TroubleError`.

        An answer is HTTP 200; with `is_any`, all that is not worth repeating. Raises the last `TroubleError`, or `TooLargeError`, `BrokenAnswerError`,
        `ClientRefusedError`, `StoppedError`.
        """
        attempt = 1
        while True:
            try:
                response = self._send(self._request(url, query), self._auth)
                if response.status_code == httpx.codes.OK or (is_any and not may_pass(response.status_code)):
                    return read(response)
                raise self._trouble(response)
            except TroubleError as trouble:
                trouble.attempts = attempt
                again = judge(trouble, datetime.now(UTC))
                if again is False or attempt == ATTEMPTS:
                    raise
            pause(backoff_s(attempt) if again is True else again, self._own.stopped)
            self._count(Traffic(retries=1))
            attempt += 1

    def _request(self, url: str, query: Query | None) -> httpx.Request:
        """A GET; raises `BrokenAnswerError` where an id in it makes the address impossible."""
        try:
            return self._connections.builder.build_request(
                "GET", url, params=dict(query) if query is not None else None
            )
        except httpx.InvalidURL as error:
            raise BrokenAnswerError(
                f"Nothing can be asked for at {self.hide(url[:200])!r}, which an id of the API is part of: {error}."
            ) from None

    def _send(self, request: httpx.Request, auth: httpx.Auth | None) -> httpx.Response:
        """Send once; `auth` None is the request for a token. Raises `TroubleError` where no whole answer came."""
        stopped = self._own.stopped
        if auth is not None:
            self._count(Traffic(waited_s=self.rate.wait_turn(stopped)))
        go_on(stopped)
        self._count(Traffic(requests=1))
        most_bytes = MOST_BYTES if auth is not None else MOST_TOKEN_BYTES
        began = time.monotonic()
        try:
            with (
                self._connections.one() as connection,
                closing(connection.send(request, auth=auth, stream=True)) as answer,
            ):
                response = whole(answer, most_bytes, stopped)
        # The last two come from a Location header that holds no address: httpx reads it, though redirects are not followed.
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            go_on(stopped)
            setting = "APPOINTEDD_BASE_URL" if auth is not None else "APPOINTEDD_TOKEN_URL"
            raise self._no_answer(request, error, setting) from None
        finally:
            self._count(Traffic(answering_s=time.monotonic() - began))
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            asked = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"), datetime.now(UTC))
            self.rate.note_limit(min(asked or 1.0, 120.0))
        else:
            self.rate.note_answer()
        return response

    def _no_answer(self, request: httpx.Request, error: Exception, setting: str) -> TroubleError:
        """What broke on the way to the server that `setting` names."""
        # The path and not the address; and what httpx says goes through `hide`, since it may quote the whole request.
        what = self.hide(f"{type(error).__name__} on {request.method} {request.url.path}: {error}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            where = shown_origin(str(request.url))
            if proxy := self._connections.proxy_of(request.url):
                variable, address = proxy
                what += f" ({where} through the proxy {address}; are {variable} and {setting} right, and does the proxy run?)"
            else:
                what += f" ({where}; is {setting} right?)"
        if "CERTIFICATE_VERIFY_FAILED" in what:
            what += VALIDITY_CURE if "has expired" in what or "not yet valid" in what else CERTIFICATE_CURE
        log.warning("%s", what)
        return TroubleError(what)

    def _trouble(self, response: httpx.Response) -> TroubleError:
        trouble = TroubleError(
            f"HTTP {response.status_code} on GET {response.request.url.path}{told_by(response, self.hide)}",
            status=response.status_code,
            retry_after=response.headers.get("Retry-After"),
            date=response.headers.get("Date"),
            parameters=named_parameters(response),
        )
        log.info("%s", trouble)
        return trouble
