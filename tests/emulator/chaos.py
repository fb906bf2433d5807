"""Rules made from a seed: a mixture of what can go wrong in one night, each used up after some uses.

What lives here: faults that a reader can notice. What does not: answers that are wrong and look right (a page with rows left out, say), which nobody
could tell from the truth.
"""

import json
from collections.abc import Callable
from random import Random

from .api import ROOT
from .faults import Action, Drip, Fault, HangUp, Replace, Reset, SetHeaders, Status, Truncate, later_page, on
from .oauth import TOKEN_PATH

STREAMS = ("accounts", "customers", "bookings", "events")


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _linked_to(url: str) -> Callable[[bytes], bytes]:
    """A page whose next link leads somewhere else."""

    def change(body: bytes) -> bytes:
        document = json.loads(body)
        document["links"] = {"next": url}
        return json.dumps(document).encode()

    return change


# name → weight, and the action
MOMENTS: dict[str, tuple[int, Action]] = {
    "500": (3, Status(500, body=b"")),
    "502": (3, Status(502)),
    "503": (3, Status(503, {"Retry-After": "0"})),
    "408": (1, Status(408, body=b"")),
    "429": (2, Status(429, {"Retry-After": "0"}, b"")),
    "429 without a wait": (1, Status(429, body=b"")),
    "reset": (3, Reset()),
    "reset in the body": (2, Truncate(0.4, hard=True)),
    "reset after the body": (2, HangUp()),
    "cut": (2, Truncate(0.7)),
    "drip": (1, Drip(5, 0.02)),
    "half a document": (2, Replace(_half)),
    "maintenance page": (1, Status(200)),
    "other content type": (1, SetHeaders({"Content-Type": "text/plain"})),
    "no date": (1, SetHeaders({"Date": None})),
    "401": (1, Status(401, body=b"")),
    "403": (1, Status(403, body=b"")),
}
# What only a list can do, and on later pages alone; each ends the slice or starts its walk again.
OF_LATER_PAGES: dict[str, tuple[int, Action]] = {
    "forgotten cursor": (4, Status(410, body=b"")),
    "refused cursor": (3, Status(400, body=b"")),
    "link to another origin": (1, Replace(_linked_to("http://127.0.0.1:1/v2/bookings"))),
    "link that is a number": (1, Replace(lambda body: _linked_to("")(body).replace(b'"next": ""', b'"next": 7'))),
}


def random_rules(rng: Random, most: int = 5) -> dict[str, Fault]:
    """Some rules for one night, by a name that says what each does, where and how often."""
    rules: dict[str, Fault] = {}
    for _ in range(rng.randint(0, most)):
        of_later_pages = rng.random() < 0.25
        choice = OF_LATER_PAGES if of_later_pages else MOMENTS
        name = rng.choices(list(choice), [weight for weight, _ in choice.values()])[0]
        path = f"{ROOT}/{rng.choice(STREAMS)}"
        if name not in ("no date", "401", "403", "drip") and not of_later_pages and rng.random() < 0.15:
            path = TOKEN_PATH
        times, skip = rng.choice([1, 1, 1, 2, 3, 7, 9, 30]), rng.choice([0, 0, 1, 2, 5])
        match = later_page(path) if of_later_pages else on(path)
        rules[f"{name} on {path}, {times} times after {skip}"] = Fault(match, choice[name][1], times, skip=skip)
    return rules
