"""What is unlike the contract, counted, each kind with the first record that shows it.

What lives here: the ledger that the rooms of shaping write into, and how much of it is too much. What does not: any judgement of a single value.
Records are told by their place in the batch, because columns are read one after the other: whichever is read first, the example stays the first
record that was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# A share of values that do not fit one column above this is no longer an odd value: they stay in `document`, so it takes many, and never a handful.
VALUES_SHARE = 0.1
FEW_VALUES = 20


@dataclass(frozen=True)
class DriftKey:
    """What is unlike the contract: never a personal value."""

    kind: str
    path: str
    detail: str


# One list holds a record several times on end, with other content each time though it did not change: its ids are not unique, or the server joins it with
# others.
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


def unfit(stream: str, drift: Counter[DriftKey], read: int) -> list[str]:
    """A sentence for each kind of values that do not fit their column in more than odd ones of so many records that were read."""
    many = [(k, n) for k, n in drift.items() if k.kind == "bad_value" and n >= FEW_VALUES and n > VALUES_SHARE * read]
    return [_sentence(stream, key, count, read) for key, count in sorted(many, key=lambda item: str(item[0]))]


def _sentence(stream: str, key: DriftKey, count: int, read: int) -> str:
    if key == REPEATED:
        return (
            f"{stream}: {count} of {read} records are the same ones several times, otherwise each time, so only the last version of each is kept. Their ids "
            f"are not unique, or the API joins them with something: name a parameter that lists each once in streams.{stream}.queries, or ask the vendor."
        )
    return (
        f"{stream}: {count} values of {key.path!r} in {read} records do not fit their column ({key.detail}), so it is empty there; "
        f"they stay in document. Correct the name or the form in the contract, then run appointedd-warehouse renormalise."
    )
