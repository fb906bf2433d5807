"""What shaping a record costs beside decoding it: `python -m tests.bench_shaping`. Prints microseconds of process time per record, and ratios of one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

from pipelines.normalise import combine, normalise, normalise_pages
from pipelines.records import Fetched, index
from pipelines.slots import Body
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from resources.envelope import decode
from tests.emulator import Emulator, World

NOW = datetime(2026, 3, 2, tzinfo=UTC)
BATCHES = 15


def pages(path: str, include: str) -> list[bytes]:
    """Ten pages of 100 records, as the emulator sends them: one batch of a sync."""
    import httpx

    with Emulator(World(seed=1, customers=1_000, bookings=1_000)) as emulator:
        form = {"grant_type": "client_credentials"}
        token = httpx.post(emulator.token_url, data=form, auth=(emulator.client_id, emulator.client_secret)).json()
        with httpx.Client(headers={"Authorization": f"Bearer {token['access_token']}"}) as client:
            address = str(httpx.URL(f"{emulator.base_url}/{path}", params={"page[size]": "100", "include": include}))
            bodies: list[bytes] = []
            while address and len(bodies) < 10:
                bodies.append(client.get(address).content)
                address = decode(bodies[-1])["links"].get("next")
            return bodies


def fetched_of(documents: list[Any]) -> list[Fetched]:
    """Records with what came around them."""
    found = []
    for document in documents:
        included = index(document.get("included") or [])
        found += [Fetched(record, included, NOW) for record in document["data"]]
    return found


class Clock:
    """Process time of each step, by name."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def timed(self, step: str, deed: Callable[..., Any], *arguments: Any) -> Any:
        """Do something, and remember what it took."""
        begun = time.process_time()
        done = deed(*arguments)
        self.times.setdefault(step, []).append(time.process_time() - begun)
        return done


def main() -> None:
    """Print what each step costs; decoding is the unit of the ratios."""
    contract = load_contract()
    for name, include in (("bookings", "customerBookings"), ("customers", "")):
        stream, clock = BUILT_IN[name], Clock()
        sent = [Body(body, NOW) for body in pages(name, include)]
        for _ in range(BATCHES):  # decoded anew each time: what a sync shapes has just come
            batch = clock.timed("in slots, from bytes to frames", normalise_pages, stream, contract, sent, {})
            clock.timed("one version for each key (combine)", combine, [batch])
            decoded = clock.timed("decode to dictionaries", list, map(decode, [page.body for page in sent]))
            fetched = clock.timed("index", fetched_of, decoded)
            clock.timed("shape dictionaries (normalise)", normalise, stream, contract, fetched, {})
        unit = median(clock.times["decode to dictionaries"])
        print(f"{name}: {len(fetched)} records, {sum(len(page.body) for page in sent) // len(fetched):,} bytes each")
        for step, taken in clock.times.items():
            print(f"  {step:36} {median(taken) / len(fetched) * 1e6:7.1f} µs  {median(taken) / unit:6.2f} x")


if __name__ == "__main__":
    main()
