"""The emulator as tests see it: a world behind a port, with switches, faults, a rate limit and a log of requests."""

import email.utils
import gzip
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from .api import ROOT, Api
from .faults import Fault, Outcome, apply_faults
from .messages import ApiError, Logged, Request, Response
from .oauth import TOKEN_PATH, token_response
from .openapi import FILES, as_text, description
from .server import Server
from .switches import Switches
from .world import World

_SECRETS = ("client_secret",)


class _Bucket:
    """A token bucket on real time: the rate limit is about load, not about the world."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._rate, self._burst = per_second, burst
        self._level, self._at = float(burst), time.monotonic()

    def wait(self) -> float:
        """Takes one; seconds until there is one to take, 0 when there was."""
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate

    def headers(self) -> dict[str, str]:
        """What is left, as many gateways tell it."""
        reset = math.ceil((self._burst - self._level) / self._rate)
        return {
            "RateLimit-Limit": str(self._burst),
            "RateLimit-Remaining": str(int(self._level)),
            "RateLimit-Reset": str(reset),
        }


class Emulator:
    """Serves a world over HTTP. Use as a context manager, or call `start` and `stop`."""

    def __init__(
        self, world: World | None = None, switches: Switches | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.world = world or World()
        self.faults: list[Fault] = []
        self.hooks: list[
            Callable[[Request], None]
        ] = []  # called with each request before it is answered, outside the lock
        self.latency = 0.0  # seconds added to every answer
        self.requests: list[Logged] = []
        self._switches = switches or Switches()
        self._server = Server(self._handle, host, port)
        self._bucket: _Bucket | None = None
        self._retry_after: Literal["seconds", "date"] | None = None
        self._tells_limit = False
        self._api: Api | None = None
        self._date = (0, "")
        self._log_lock = threading.Lock()
        self.world.switches = self._switches

    # ---- life --------------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Open the port."""
        self._server.start()
        self._api = None
        return self

    def stop(self) -> None:
        """Close the port and all connections. The emulator can be started again: same world, same port."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- addresses ---------------------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def base_url(self) -> str:
        """Where the collections are."""
        return self.origin + ROOT

    @property
    def token_url(self) -> str:
        """Where tokens are had."""
        return self.origin + TOKEN_PATH

    @property
    def client_id(self) -> str:
        """Id of the world's first API client."""
        return next(iter(self.world.clients))

    @property
    def client_secret(self) -> str:
        """Secret of the world's first API client."""
        return self.world.clients[self.client_id].secret

    def environment(self) -> dict[str, str]:
        """The settings that point the product at this emulator."""
        return {
            "APPOINTEDD_BASE_URL": self.base_url,
            "APPOINTEDD_TOKEN_URL": self.token_url,
            "APPOINTEDD_CLIENT_ID": self.client_id,
            "APPOINTEDD_CLIENT_SECRET": self.client_secret,
        }

    # ---- behaviour ---------------------------------------------------------------------------------------------------------------

    @property
    def switches(self) -> Switches:
        """The dialect spoken; may be replaced while the server runs."""
        return self._switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        with self.world.lock:
            self._switches = self.world.switches = switches
            self._api = None

    def openapi(self) -> dict[str, object]:
        """The OpenAPI document of the dialect in force; also at /openapi.json and /openapi.yaml."""
        with self.world.lock:
            return description(self.world, self._switches, self.origin)

    def rate_limit(
        self,
        per_second: float | None,
        burst: int = 1,
        retry_after: Literal["seconds", "date"] | None = "seconds",
        *,
        tells: bool = False,
    ) -> None:
        """Answer 429 to what comes faster (API only, not tokens); None lifts the limit. `date` counts from the `Date` header.

        `tells`: every answer of the API carries `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (whole seconds).
        """
        self._bucket = _Bucket(per_second, burst) if per_second is not None else None
        self._retry_after = retry_after
        self._tells_limit = tells

    # ---- log ---------------------------------------------------------------------------------------------------------------------

    def count(self, prefix: str = ROOT) -> int:
        """How many requests were answered whose path begins so, with or without the leading /v2/."""
        prefixes = (prefix,) if prefix.startswith("/") else (f"{ROOT}/{prefix}",)
        return sum(1 for logged in list(self.requests) if logged.path.startswith(prefixes))

    @property
    def token_requests(self) -> int:
        """How many token requests were answered."""
        return self.count(TOKEN_PATH)

    @property
    def max_in_flight(self) -> int:
        """The most requests that were unanswered at one time since the log was reset."""
        return self._server.max_in_flight

    def reset_log(self) -> None:
        """Forget the requests so far."""
        with self._log_lock:
            self.requests.clear()
            self._server.max_in_flight = self._server.in_flight

    # ---- answering ---------------------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Outcome:
        for hook in list(self.hooks):
            hook(request)
        form: dict[str, str] = {}
        with self.world.lock:
            outcome = apply_faults(self.faults, request, lambda asked: self._answer(asked, form))
            outcome.delay += self.latency
            response = outcome.response
            if response is not None:
                self._finish(request, response)
                if self._bucket is not None and self._tells_limit and request.path != TOKEN_PATH:
                    response.headers |= self._bucket.headers()
        shown = {name: value for name, value in form.items() if name not in _SECRETS} or request.query
        with self._log_lock:
            self.requests.append(Logged(request.method, request.path, shown, response.status if response else 0))
        return outcome

    def _answer(self, request: Request, form: dict[str, str]) -> Response:
        if request.path in FILES and request.method == "GET":
            return Response(200, self._described(FILES[request.path]), {"Content-Type": "application/json"})
        if request.path == TOKEN_PATH:
            return token_response(self.world, self._switches, request, form)
        if self._bucket is not None and (seconds := self._bucket.wait()):
            headers: dict[str, str] = {"Content-Type": "application/vnd.api+json"}
            whole = math.ceil(seconds)
            if self._retry_after == "seconds":
                headers["Retry-After"] = str(whole)
            elif self._retry_after == "date":
                until = self.world.clock.now() + timedelta(seconds=whole)
                headers["Retry-After"] = email.utils.format_datetime(until, usegmt=True)
            return Response(429, ApiError(429, "too_many_requests", "Slow down.").body(), headers)
        if not request.path.startswith(ROOT + "/"):
            return Response(404, b"", {})
        if self._api is None:
            self._api = self._new_api()
        return self._api.answer(request)

    def _new_api(self) -> Api:
        """The API of the dialect in force; the bench has one of its own over larger tables."""
        return Api(self.world, self._switches, self.origin)

    def _described(self, form: str) -> bytes:
        """The vendor's own file: what is published of the dialect in force."""
        return as_text(description(self.world, self._switches, self.origin), form).encode()

    def _finish(self, request: Request, response: Response) -> None:
        """Adds what every answer has: the `Date` of the world, and compression where wanted."""
        if "Date" not in response.headers:
            response.headers["Date"] = self._date_header(self.world.clock.now())
        wanted = "gzip" in request.headers.get("accept-encoding", "")
        if self._switches.gzip and wanted and response.body and "Content-Encoding" not in response.headers:
            response.body = gzip.compress(response.body, compresslevel=1)
            response.headers["Content-Encoding"] = "gzip"

    def _date_header(self, now: datetime) -> str:
        second = int(now.timestamp())
        if self._date[0] != second:
            self._date = (second, email.utils.format_datetime(now, usegmt=True))
        return self._date[1]
