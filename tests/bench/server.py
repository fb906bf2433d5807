"""The bench's server: a process of its own with a `BenchWorld` behind the emulator's port, and a control address beside the API.

What lives here: what is set, counted, changed and told over /control, and the faults of one bad night. What does not: records and pages (`world`).
`python -m tests.bench.server --bookings 20000` prints one JSON line with its addresses and serves until its standard input is closed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from resources.settings import PROJECT_FOLDER
from tests.bench.world import COLLECTIONS, BenchApi, BenchWorld, Row
from tests.emulator import Emulator, Fault, Reset, Status, Switches, Truncate
from tests.emulator import Replace as Body
from tests.emulator.api import ROOT
from tests.emulator.faults import Action, Outcome
from tests.emulator.messages import Request, Response
from tests.emulator.query import decode_cursor, encode_cursor

Json = dict[str, Any]
CONTROL = "/control/"
PAGE = 100
HTML = b"<html><body><h1>Please wait</h1></body></html>"


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


# How often each thing goes wrong, of all requests to a collection.
BAD_NIGHT: tuple[tuple[float, Action], ...] = (
    (0.05, Status(500, body=b"")),
    (0.05, Status(503, {"Retry-After": "0"})),
    (0.05, Status(429, {"Retry-After": "1"}, b"")),
    (0.02, Reset()),
    (0.02, Truncate(0.6)),
    (0.02, Body(_half)),
    (0.02, Status(200, body=HTML)),
)
OVERLAPPING = 0.2
TOKEN_DIES_AFTER = 15
ROWS_MOVE_AFTER = 4
ROWS_MOVED = 3


class BenchEmulator(Emulator):
    """The emulator over a `BenchWorld`, with /control beside the API."""

    world: BenchWorld

    def __init__(self, world: BenchWorld, switches: Switches | None = None) -> None:
        super().__init__(world, switches)
        self.world = world
        self._first = self._last = 0.0
        self._began_ms = 0
        self._orders: dict[str, Callable[[Json], object]] = {
            "set": self._set,
            "change": self._change,
            "advance": self._advance,
            "reset": self._reset,
            "counts": lambda _: self._counts(),
            "truth": lambda _: self.world.sums(),
            "minimum": self._minimum,
            "now": lambda _: {"ms": self.world.clock.ms()},
            "cursors": self._cursors,
        }

    def _new_api(self) -> BenchApi:
        return BenchApi(self.world, self.switches, self.origin)

    def _handle(self, request: Request) -> Outcome:
        if request.path.startswith(CONTROL):
            answer = self.ordered(request.path.removeprefix(CONTROL), json.loads(request.body or b"{}"))
            return Outcome(Response(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}))
        if request.path.startswith(ROOT):
            self._last = time.monotonic()
            if not self._first:
                self._first, self._began_ms = self._last, self.world.clock.ms()
        return super()._handle(request)

    def ordered(self, name: str, asked: Json) -> object:
        """The answer to one order."""
        with self.world.lock:
            return self._orders[name](asked)

    # ---- orders ------------------------------------------------------------------------------------------------------------------

    def _set(self, asked: Json) -> None:
        """latency_s, rate (a second, None: no limit) with burst, filters, sort, totals, faults (a seed, None: none). All of them, each time."""
        self.latency = asked["latency_s"]
        self.rate_limit(asked["rate"], asked["burst"])
        totals = "present" if asked["totals"] else "absent"
        self.switches = Switches(filters=asked["filters"], sort=asked["sort"], meta_total=totals)  # type: ignore[arg-type]  # one of two
        self.faults.clear()
        self.hooks.clear()
        self.world.clock.stop()
        if asked["faults"] is not None:
            self.world.clock.run()  # rows that move do so at instants of their own
            self._bad_night(Random(asked["faults"]))

    def _bad_night(self, rng: Random) -> None:
        def now_and_then(share: float) -> Callable[[Request], bool]:
            return lambda request: request.path.startswith(ROOT) and rng.random() < share

        self.faults += [Fault(now_and_then(share), action, times=None) for share, action in BAD_NIGHT]
        asked = Counter[str]()

        def hook(request: Request) -> None:
            if not request.path.startswith(ROOT):
                return
            asked["all"] += 1
            with self.world.lock:
                if asked["all"] % TOKEN_DIES_AFTER == 0:
                    self.world.revoke_tokens()
                if asked["all"] % ROWS_MOVE_AFTER == 0:
                    self.world.touch(ROWS_MOVED)
                if rng.random() < OVERLAPPING:
                    self._step_back(request, rng)

        self.hooks.append(hook)

    def _step_back(self, request: Request, rng: Random) -> None:
        """The page begins some rows too early: the reader meets them twice."""
        query, stream = request.query, request.path.removeprefix(ROOT + "/")
        if "page[after]" not in query or stream not in COLLECTIONS:
            return
        order = query.get("sort", "-created")
        name = order.removeprefix("-")
        index = self.world.tables[stream].index(name)
        key = decode_cursor(query["page[after]"], name, "page[after]")
        at = next((n for n, row in _from(index.rows, key, index.key) if index.key(row) >= key), len(index.rows))
        step = rng.randint(1, 10)
        at = min(at + step, len(index.rows) - 1) if order.startswith("-") else max(at - step, 0)
        cursor = encode_cursor(name, index.key(index.rows[at]))
        request.pairs = [(n, cursor if n == "page[after]" else value) for n, value in request.pairs]

    def _change(self, asked: Json) -> Json:
        """`share` of each collection, or `counts` by collection, within the `hours` up to now."""
        spread = timedelta(hours=asked["hours"])
        if "counts" in asked:
            return dict(self.world.change_counts(asked["counts"], spread))
        return dict(self.world.change(asked["share"], spread))

    def _advance(self, asked: Json) -> None:
        self.world.clock.advance(timedelta(hours=asked["hours"]))

    def _reset(self, _: Json) -> None:
        self.world.restore()

    def _counts(self) -> Json:
        """Requests since the last time this was asked: all to the API, to the token endpoint, those answered 429, first to last in seconds, ..."""
        pages = Counter(
            logged.path.removeprefix(ROOT + "/") for logged in self.requests if logged.path.startswith(ROOT)
        )
        told = {
            "requests": self.count(),
            "tokens": self.token_requests,
            "limited": sum(logged.status == 429 for logged in self.requests),
            "span_s": self._last - self._first,
            "in_flight": self.max_in_flight,
            "by_path": {path: count for path, count in pages.items() if path in ("accounts", *COLLECTIONS)},
            "began_ms": self._began_ms,
        }
        self.reset_log()
        self._first = self._last = 0.0
        return told

    def _minimum(self, asked: Json) -> int:
        """The fewest requests that show everything changed since an instant (`since_ms`, None: ever), one for each collection at least."""
        rows = self.world.changed_since(-(2**62) if asked["since_ms"] is None else asked["since_ms"])
        return sum(max(1, -(-count // PAGE)) for count in [len(self.world.accounts), *rows.values()])

    def _cursors(self, asked: Json) -> list[str]:
        """Addresses of so many pages of bookings, spread over the whole list: for the probe of what this server can do."""
        index = self.world.tables["bookings"].index("updated")
        count = min(asked["count"], len(index.rows))
        step = max(1, (len(index.rows) - PAGE) // count)
        cursors = [encode_cursor("updated", index.key(index.rows[n * step])) for n in range(count)]
        return [
            f"{ROOT}/bookings?page[size]={PAGE}&sort=updated&include=customerBookings&page[after]={one}"
            for one in cursors
        ]


def _from(rows: Any, key: tuple[int, str], of: Callable[[Row], tuple[int, str]]) -> Iterator[tuple[int, Row]]:
    from bisect import bisect_left

    at = bisect_left(rows, key, key=of)
    for number in range(at, len(rows)):
        yield number, rows[number]


def main() -> None:
    """Serve until standard input ends, which it does when the process that started this one is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.server", description=__doc__)
    parser.add_argument("--bookings", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    world = BenchWorld(given.bookings, seed=given.seed)
    with BenchEmulator(world) as emulator:
        zones = {account.id: account.time_zone for account in world.accounts}
        told = {
            "origin": emulator.origin,
            "environment": emulator.environment(),
            "zones": zones,
            "built_s": time.monotonic() - began,
        }
        print(json.dumps(told), flush=True)
        sys.stdin.read()


class Orders:
    """A server and its orders as methods, wherever it runs."""

    bookings: int
    origin: str
    environment: dict[str, str]
    zones: dict[str, str]

    def order(self, name: str, **asked: object) -> Any:
        """One order; gives its answer."""
        raise NotImplementedError

    def set(
        self,
        *,
        latency_s: float = 0.0,
        rate: float | None = None,
        burst: int = 1,
        filters: bool = True,
        sort: bool = True,
        totals: bool = True,
        faults: int | None = None,
    ) -> None:
        """How it behaves from now on; what is left out is as it was made."""
        self.order(
            "set",
            latency_s=latency_s,
            rate=rate,
            burst=burst,
            filters=filters,
            sort=sort,
            totals=totals,
            faults=faults,
        )
        self.order("counts")

    def truth(self) -> dict[str, list[int]]:
        """By collection: rows, distinct ids, sum of `updated` in milliseconds."""
        return {name: list(sums) for name, sums in self.order("truth").items()}

    def minimum(self, since_ms: int | None = None) -> int:
        """The fewest requests that show everything changed since then."""
        return int(self.order("minimum", since_ms=since_ms))


class InThread(Orders):
    """A server in a thread of this process, for what is not measured by the second. Use as a context manager."""

    def __init__(self, bookings: int) -> None:
        self.bookings = bookings
        self._emulator = BenchEmulator(BenchWorld(bookings)).start()
        self.origin = self._emulator.origin
        self.environment = self._emulator.environment()
        self.zones = {account.id: account.time_zone for account in self._emulator.world.accounts}

    def __enter__(self) -> InThread:
        return self

    def __exit__(self, *_: object) -> None:
        self._emulator.stop()

    def order(self, name: str, **asked: object) -> Any:
        """One order; gives its answer."""
        return self._emulator.ordered(name, asked)


class Served(Orders):
    """A server in a process of its own. Use as a context manager."""

    def __init__(self, bookings: int, *, seed: int = 1) -> None:
        self.bookings = bookings
        command = [sys.executable, "-m", "tests.bench.server", "--bookings", str(bookings), "--seed", str(seed)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT_FOLDER
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"The server of {bookings} bookings ended with code {self._process.returncode}.")
        told = json.loads(line)
        self.origin = told["origin"]
        self.environment = told["environment"]
        self.zones = told["zones"]
        self.built_s: float = told["built_s"]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def order(self, name: str, **asked: object) -> Any:
        """One order over the control address; gives its answer."""
        request = urllib.request.Request(self.origin + CONTROL + name, json.dumps(asked).encode(), method="POST")  # noqa: S310  our own server
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  our own server
            return json.load(answer)


def ceiling(server: Served, *, connections: int = 4, seconds: float = 2.0) -> float:
    """Pages a second that a few keep-alive connections of a client that only counts bytes can draw."""
    import socket
    from urllib.parse import urlsplit

    body = b"grant_type=client_credentials&client_id=%b&client_secret=%b" % tuple(
        server.environment[f"APPOINTEDD_CLIENT_{name}"].encode() for name in ("ID", "SECRET")
    )
    asked = urllib.request.Request(server.environment["APPOINTEDD_TOKEN_URL"], body)  # noqa: S310  our own server
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310  our own server
        token = json.load(answer)["access_token"]
    targets = server.order("cursors", count=500)
    place = urlsplit(server.origin)
    drawn: list[int] = []

    def draw(start: int, until: float) -> None:
        buffer = memoryview(bytearray(1 << 20))
        pages = 0
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=30) as connection:
            while time.monotonic() < until:
                target = targets[(start + pages * connections) % len(targets)]
                head = f"GET {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
                connection.sendall(head.encode())
                got = connection.recv_into(buffer)
                while (end := bytes(buffer[: min(got, 4096)]).find(b"\r\n\r\n")) < 0:
                    got += connection.recv_into(buffer[got:])
                lines = bytes(buffer[:end]).lower()
                if not lines.startswith(b"http/1.1 200"):
                    raise RuntimeError(f"The ceiling's probe was answered {lines[:60]!r}.")
                length = int(lines.partition(b"content-length: ")[2].split(b"\r\n")[0])
                left = end + 4 + length - got
                while left > 0:
                    left -= connection.recv_into(buffer)
                pages += 1
        drawn.append(pages)

    draw(0, time.monotonic() + seconds / 2)  # warms what the server keeps
    drawn.clear()
    began = time.monotonic()
    threads = [threading.Thread(target=draw, args=(n, began + seconds)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(drawn) != connections:
        raise RuntimeError("A connection of the ceiling's probe failed; its error is above.")
    server.order("counts")
    return sum(drawn) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
