"""What one transaction writes, and what it did: values only, made by `pipelines.run`, read by `warehouse`, `state`, `merging` and `ledger`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Table:
    """Where a batch goes: the table's name and key, and its child tables with theirs.

    `list_of`: the column by which a child's rows stand in lists of their own, for the child tables that have several lists for one parent.
    """

    stream: str
    key: tuple[str, ...]
    children: Mapping[str, tuple[str, ...]]
    list_of: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Counts:
    """What one commit did, in rows."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    duplicate: int = 0
    quarantined: int = 0
    tombstoned: int = 0
    silent: int = 0

    def __add__(self, other: Counts) -> Counts:
        """The sum, count by count."""
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Reconciliation:
    """Evidence of one walk: see `ops.reconciliations`. `account_id` None: of all accounts of the slice together."""

    first_total: int | None
    last_total: int | None
    distinct_count: int
    walks_count: int
    verdict: str
    account_id: str | None = None


@dataclass(frozen=True)
class Brake:
    """An account of which a sweep would have retired too much, so it retired nothing there; in rows."""

    account_id: str
    gone_count: int
    rows_count: int


@dataclass(frozen=True)
class Part:
    """The bookkeeping of one part: a slice, or one piece of a long walk; its rows are in the `Commit` that it is a part of.

    `gone`: rows to tombstone (key, `evidence`, `at`). `since` None is the open start of history; the window itself is written with the last part only.
    """

    slice_id: str
    part_number: int
    is_last_part: bool
    run_id: str
    api_client: str
    kind: str
    account_ids: Sequence[str]
    since: datetime | None
    until: datetime
    pages_count: int
    fetched_at: datetime
    read_count: int = 0
    duplicate_count: int = 0
    quarantine: Sequence[tuple[str, str, datetime]] = ()
    drift: Sequence[tuple[str, str, str, int, str | None]] = ()
    gone: pl.DataFrame | None = None
    brakes: Sequence[Brake] = ()
    reconciliations: Sequence[Reconciliation] = ()


@dataclass(frozen=True)
class Commit:
    """Everything that one transaction writes for one stream: the parts of some slices, and the rows of all of them as one frame.

    `rows` and `children` are frames as `pipelines.normalise.combine` makes them, with one version for each key over all parts; the column `slice_id` of
    `rows` names the part that a row came with. The parts are of different slices and all of one kind.
    """

    table: Table
    rows: pl.DataFrame
    children: Mapping[str, pl.DataFrame]
    parts: Sequence[Part]

    def __post_init__(self) -> None:
        if len({part.slice_id for part in self.parts}) != len(self.parts) or len({p.kind for p in self.parts}) != 1:
            raise ValueError("The parts of a commit are of different slices and of one kind.")

    @property
    def kind(self) -> str:
        """What kind of run the parts are of: see `ops.slices`."""
        return self.parts[0].kind
