"""What is unlike the contract, counted, each kind with the first record that shows it.

What lives here: the ledger that the rooms of shaping write into. What does not: any judgement of a value. Records are told by their place in the batch, because
columns are read one after the other: whichever is read first, the example stays the first record that was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DriftKey:
    """What is unlike the contract: never a personal value."""

    kind: str
    path: str
    detail: str


# One list holds a record several times, with other content each time though it did not change: its ids are not unique, or the server joins it with others.
REPEATED = DriftKey("bad_value", "id", "the same record several times, otherwise each time")


class Notes:
    """Drift of one batch. `places`: for each kind of it, the first record's place."""

    def __init__(self) -> None:
        self.drift: Counter[DriftKey] = Counter()
        self.places: dict[DriftKey, int] = {}

    def add(self, kind: str, path: str, detail: str, place: int) -> None:
        """Count something that is unlike the contract, in the record at `place`."""
        key = DriftKey(kind, path, detail)
        self.drift[key] += 1
        self.places[key] = min(place, self.places.get(key, place))

    def add_many(self, kind: str, path: str, detail: str, places: Sequence[int]) -> None:
        """Count the same thing in many records; `places` in their order."""
        if places:
            key = DriftKey(kind, path, detail)
            self.drift[key] += len(places)
            self.places[key] = min(places[0], self.places.get(key, places[0]))

    def add_lost(self, path: str, detail: str, places: Sequence[int]) -> None:
        """Count values that a cast lost; the example is the first of the first table that shows it."""
        key = DriftKey("bad_value", path, detail)
        self.drift[key] += len(places)
        self.places.setdefault(key, places[0])
