"""What decoding a page costs, by decoder: `python -m tests.bench_decoding`. Needs orjson beside the locked packages; prints ratios of one run."""

from __future__ import annotations

import importlib
import json
import timeit
from decimal import Decimal
from functools import partial
from statistics import median

import msgspec

from tests.emulator import Emulator, World


def page() -> bytes:
    """A page of 100 bookings with their participants, as the emulator sends it."""
    import httpx

    with Emulator(World(seed=1, customers=200, bookings=200)) as emulator:
        form = {"grant_type": "client_credentials"}
        token = httpx.post(emulator.token_url, data=form, auth=(emulator.client_id, emulator.client_secret)).json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        query = {"page[size]": "100", "include": "customerBookings"}
        return httpx.get(f"{emulator.base_url}/bookings", params=query, headers=headers).content


def main() -> None:
    """Print the median time of each decoder and its ratio to the one in use."""
    body = page()
    decoders = {
        "msgspec, fractions as Decimal (in use)": msgspec.json.Decoder(float_hook=Decimal).decode,
        "msgspec, fractions as float": msgspec.json.Decoder().decode,
        "json, fractions as Decimal": lambda b: json.loads(b, parse_float=Decimal),
    }
    try:
        decoders["orjson, fractions as float"] = importlib.import_module("orjson").loads
    except ModuleNotFoundError:
        print("orjson is not installed; its row is left out")
    times = {
        name: median(timeit.repeat(partial(decode, body), number=20, repeat=15)) / 20
        for name, decode in decoders.items()
    }
    base = next(iter(times.values()))
    print(f"{len(body):,} bytes")
    for name, seconds in times.items():
        print(f"{name:40} {seconds * 1000:6.2f} ms  {seconds / base:5.2f} x")


if __name__ == "__main__":
    main()
