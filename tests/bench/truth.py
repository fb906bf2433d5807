"""Is a product's own file what the server holds? Rows, distinct ids and the sum of `updated` in milliseconds, for each collection.

Each product is asked in its own terms; that is all this module knows of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from resources.database import connect

Sums = Mapping[str, Sequence[int]]
COLLECTIONS = ("accounts", "customers", "bookings", "events")
_MS = "coalesce(sum(epoch_ms({})), 0)::HUGEINT"


def _question(product: str, collection: str) -> str:
    if product == "ours":
        key = collection.removesuffix("s") + "_id"
        table, key, stamp = f"core.{collection} where deleted_at is null", key, "updated_at"
    elif product == "script":
        table, key, stamp = collection, "id", "updated"
    else:
        table, key, stamp = f"bench.{collection}", "id", "attributes__updated"
    total = "0" if collection == "accounts" else _MS.format(stamp)  # accounts do not send it in this dialect
    return f"select count(*), count(distinct {key}), {total} from {table}"  # noqa: S608  names of this module


def held(product: str, path: Path) -> dict[str, list[int]]:
    """What a file holds, as `BenchWorld.sums` tells it of the server. `product`: ours, script or dlt."""
    with connect(path, read_only=True) as connection:
        found = {}
        for collection in COLLECTIONS:
            row = connection.execute(_question(product, collection)).fetchone()
            found[collection] = [int(value) for value in row or ()]
        return found


def differences(product: str, path: Path, truth: Sums) -> list[str]:
    """Where a file differs from the server, as sentences; empty where it does not."""
    names = ("rows", "distinct ids", "sum of updated")
    return [
        f"{collection}: {name} is {have}, on the server {want}"
        for collection, sums in held(product, path).items()
        for name, have, want in zip(names, sums, truth[collection], strict=True)
        if have != want
    ]
