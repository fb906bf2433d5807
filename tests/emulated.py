"""A plain client of the emulator, for its own proof."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.emulator import (
    Emulator,
    Switches,
    World,
)

Json = dict[str, Any]
# Loading the certificate authorities takes longer than most tests, and nothing here speaks TLS.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client() -> httpx.Client:
    return httpx.Client(verify=NO_TLS, trust_env=False)


def small(seed: int = 1, **more: Any) -> World:
    return World(seed=seed, **{"accounts": 3, "customers": 40, "bookings": 130, "events": 12, **more})


class Client:
    """The least that can talk to the emulator."""

    def __init__(self, emulator: Emulator, http: httpx.Client) -> None:
        self.emulator, self.http = emulator, http
        self.headers: dict[str, str] = {}

    def token(self, client: tuple[str, str] = ("emu-client", "emu-secret")) -> httpx.Response:
        answer = self.http.post(self.emulator.token_url, data={"grant_type": "client_credentials"}, auth=client)
        if answer.status_code == 200:
            self.headers = {"Authorization": "Bearer " + answer.json()["access_token"]}
        return answer

    def get(self, target: str, headers: dict[str, str] | None = None, /, **params: str) -> httpx.Response:
        url = target if target.startswith("http") else f"{self.emulator.base_url}/{target}"
        return self.http.get(url, params=params or None, headers=self.headers | (headers or {}))

    def pages(self, collection: str, params: dict[str, str] | None = None) -> Iterator[Json]:
        url = f"{self.emulator.base_url}/{collection}"
        answer = self.http.get(url, params=params, headers=self.headers)
        while True:
            assert answer.status_code == 200, answer.text
            page = json.loads(answer.text, parse_float=Decimal)
            yield page
            link = page["links"]["next"]
            if link is None:
                return
            url = urljoin(url, link["href"] if isinstance(link, dict) else link)
            answer = self.http.get(url, headers=self.headers)

    def ids(self, collection: str, **params: str) -> list[str]:
        return [row["id"] for page in self.pages(collection, params or None) for row in page["data"]]


@contextmanager
def serving(world: World | None = None, switches: Switches | None = None) -> Iterator[Client]:
    with Emulator(world or small(), switches) as emulator, http_client() as http:
        client = Client(emulator, http)
        client.token()
        yield client
