"""Records in, typed frames out: one frame for the stream's table and one for each child, with every value that did not fit accounted for.

What lives here: shape only (rename, cast, flatten, one version for each key), as a pure function of its arguments. What does not: I/O, clocks, merging,
anything that needs a second table. Values travel as text until polars casts a whole column; what a cast loses is drift and stays in `document`.
Sources: evidence sections 2 and 5; the hazards are cited by number where they are met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

import polars as pl

from pipelines.columns import Sheet
from pipelines.drift import REPEATED, DriftKey, Notes
from pipelines.extract import Extract, Loose, Slotted, extract, left_as_sent
from pipelines.lists import OWNER
from pipelines.members import Values
from pipelines.records import Fetched
from pipelines.slots import Body, sheaf
from pipelines.streams import DTYPES, Column, Kind, Stream, shape_of
from resources.contract import Contract

POSITION = "position"
# The years 1 to 9999 in microseconds of the Unix epoch, less a day at both ends.
DAY_US = 86_400_000_000
FIRST_TICK, LAST_TICK = -62_135_596_800_000_000 + DAY_US, 253_402_300_799_999_999 - DAY_US
# Kinds whose text polars casts; the check behind each says whether the cast kept the value.
CAST_KINDS: tuple[Kind, ...] = ("instant", "money", "number", "integer")
# Decimals as text that their dtype holds to the last digit, as far as digits behind the point go.
EXACT: dict[Kind, str] = {"money": r"^[+-]?\d*(\.\d{0,4}0*)?$", "number": r"^[+-]?\d*(\.\d{0,9}0*)?$"}


@dataclass
class Batch:
    """What some pages hold for one stream.

    `rows`: one row for each record (after `combine`: for each key), with the stream's columns, account_id, document, content_hash, fetched_at and, for
    each child, `whole_<child>`: whether the record's list of that child is known to be complete; for a child with several lists for one record
    (`Child.list_of`) also `except_<child>`: the lists of which the contrary is known. `children`: one row for each child that those
    records list, with `is_partial` where only the linkage came. Before `combine`, `position` ties children to the version that listed them.
    `present`: columns for which a record had a member, if only a null. `accounts`: of all records, also of those that `keeps` leaves out.
    `shape`: of the contract that it was read by (`streams.shape_of`).
    `read_count` counts records, `duplicate_count` those that a newer version of the same key replaced.
    """

    stream: Stream
    rows: pl.DataFrame
    children: dict[str, pl.DataFrame]
    read_count: int
    shape: str
    duplicate_count: int = 0
    quarantine: list[tuple[str, str, datetime]] = field(default_factory=list)
    drift: Counter[DriftKey] = field(default_factory=Counter)
    examples: dict[DriftKey, str] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)


def column_names(columns: Iterable[Column]) -> list[str]:
    """Names of columns, each status with its raw twin."""
    return [n for c in columns for n in ((c.name, f"{c.name}_raw") if c.kind == "status" else (c.name,))]


def schema_of(columns: Iterable[Column]) -> dict[str, pl.DataType]:
    """Column → dtype of a table's own columns, raw statuses included."""
    kinds = {c.name: c.kind for c in columns}
    return {name: DTYPES[kinds.get(name, "text")] for name in column_names(columns)}


def _series(values: Values | pl.Series | None, dtype: pl.DataType, height: int) -> pl.Series:
    """One column as polars holds it; None where no row has a value."""
    if isinstance(values, pl.Series):
        return values
    if values is None or height == 0:
        return pl.Series([None], dtype=dtype).new_from_index(0, height)
    if dtype == DTYPES["instant"]:  # costly to convert, and the rows of a page share one object
        keys = list(map(id, values))
        distinct = dict(zip(keys, values, strict=True))
        series, codes = (
            pl.Series(list(distinct.values()), dtype=dtype),
            {key: code for code, key in enumerate(distinct)},
        )
        return series.gather(list(map(codes.__getitem__, keys))) if len(codes) > 1 else series.new_from_index(0, height)
    return pl.Series(values, dtype=dtype)


def _frame(
    sheet: Sheet, schema: Mapping[str, pl.DataType], columns: Iterable[Column], places: Sequence[int], notes: Notes
) -> pl.DataFrame:
    """A sheet as a typed frame; a value that a cast loses is null here, and drift. `places`: of each row's record."""
    height = len(places)
    kinds = {c.name: c.kind for c in columns if c.kind in CAST_KINDS and c.name in sheet}
    sent = pl.DataFrame(
        [
            _series(sheet.get(name), pl.String() if name in kinds else dtype, height).alias(name)
            for name, dtype in schema.items()
        ]
    )
    if not kinds:
        return sent
    # All casts in one call: each call costs as much as some hundred values.
    typed = sent.with_columns(_cast(pl.col(name), kind) for name, kind in kinds.items())
    for name, kind in kinds.items():
        if kind == "instant" and typed.get_column(name).null_count() > sent.get_column(name).null_count():
            again = sent.select(_cast(_in_full(pl.col(name)), kind)).to_series()
            typed = typed.with_columns(pl.coalesce(name, again))
        if typed.get_column(name).null_count() > sent.get_column(name).null_count():
            lost = (sent.get_column(name).is_not_null() & typed.get_column(name).is_null()).arg_true()
            notes.add_lost(name, f"text that is no {kind}", [places[row] for row in lost])
    return typed


def _in_full(raw: pl.Expr) -> pl.Expr:
    """Instants with what ISO 8601 lets them leave out and polars wants: the minutes of the offset, the seconds."""
    offset = raw.str.replace(r"(:\d\d(?:\.\d+)?[+-]\d\d)$", "${1}:00")
    return offset.str.replace(r"([Tt ]\d\d:\d\d)([Zz+-])", "${1}:00${2}")


def _cast(raw: pl.Expr, kind: Kind) -> pl.Expr:
    if kind == "instant":
        # 5.6: second or millisecond, Z or an offset. An instant without a zone is not guessed at.
        instant = raw.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        # Beyond the years 1 to 9999 neither Python nor most clients can read it back; a day less, since clients put an instant into their own time zone,
        # where a placeholder such as 0001-01-01T00:00:00Z or 9999-12-31T23:59:59Z lies beyond, and one such value fails the whole query.
        return pl.when(instant.to_physical().is_between(FIRST_TICK, LAST_TICK)).then(instant)
    if kind == "integer":
        return raw.str.replace(r"\.0+$", "").cast(pl.Int32, strict=False)
    # A cast to decimal rounds without a word, so the text itself must show that no digit is lost.
    return pl.when(raw.str.contains(EXACT[kind])).then(raw.cast(DTYPES[kind], strict=False))


def normalise(
    stream: Stream,
    contract: Contract,
    records: Iterable[Fetched],
    zones: Mapping[str, str],
    default_account: str | None = None,
    keeps: Collection[str] | None = None,
) -> Batch:
    """Records of one stream as typed frames.

    `zones`: account id → IANA zone, for dates that are epochs. `default_account`: the account of rows that do not name theirs; None where the list
    may hold several, and then such a row raises `NoAccountError`. `keeps`: records of other accounts are counted and left out; None: all are kept.
    """
    found = extract(stream, contract, Loose(stream, contract, records), zones, default_account, keeps)
    return _batch(stream, found, shape_of(stream, contract))


def normalise_pages(
    stream: Stream,
    contract: Contract,
    bodies: Sequence[Body],
    zones: Mapping[str, str],
    default_account: str | None = None,
    keeps: Collection[str] | None = None,
) -> Batch:
    """As `normalise`, of pages as they came; raises `NotPlainError` where their records must be read as dictionaries instead."""
    sent = Slotted(stream, contract, sheaf(stream.name, bodies, left_as_sent(contract, stream)))
    return _batch(stream, extract(stream, contract, sent, zones, default_account, keeps), shape_of(stream, contract))


def empty(stream: Stream, contract: Contract) -> Batch:
    """A combined batch of nothing, for what is committed without rows."""
    return combine([normalise(stream, contract, [], {})])


def _batch(stream: Stream, found: Extract, shape: str) -> Batch:
    text, flag = DTYPES["text"], DTYPES["boolean"]
    schema = {POSITION: pl.Int64(), **dict.fromkeys(stream.key, text), **schema_of(stream.columns)}
    schema |= {"document": text, "content_hash": text, "fetched_at": DTYPES["instant"]}
    schema |= {f"whole_{child.table}": flag for child in stream.children}
    schema |= {f"except_{child.table}": pl.List(text) for child in stream.children if child.list_of}
    places = range(len(found.ids))
    rows = _frame({**found.rows, POSITION: places}, schema, stream.columns, places, found.notes)
    parents = rows.select(POSITION, *stream.key)
    children = {}
    for child in stream.children:
        sheet = found.children[child.table]
        owners: list[int] = list(sheet[OWNER])
        schema = {POSITION: pl.Int64(), **dict.fromkeys((*stream.key, *child.key), text), **schema_of(child.columns)}
        schema |= {"is_partial": flag}
        keys = parents[owners].get_columns()
        sheet |= {column.name: column for column in keys}
        children[child.table] = _frame(sheet, schema, child.columns, owners, found.notes)
    return Batch(
        stream=stream,
        rows=rows,
        children=children,
        read_count=found.read_count,
        shape=shape,
        quarantine=found.quarantine,
        drift=found.notes.drift,
        examples={key: found.ids[place] for key, place in found.notes.places.items()},
        present=found.present,
        accounts=found.accounts,
    )


def combine(batches: Sequence[Batch]) -> Batch:
    """Batches of one stream as one, with one version for each key and only that version's children.

    The newest version has the latest `updated_at`, then the latest `fetched_at`, then came last.
    """
    stream = batches[0].stream
    offsets = list(accumulate((b.rows.height for b in batches), initial=0))

    def stacked(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
        shifted = (f.with_columns(pl.col(POSITION) + offset) for f, offset in zip(frames, offsets, strict=False))
        return pl.concat(shifted)

    rows = stacked(b.rows for b in batches)
    kept = rows.sort("updated_at", "fetched_at", POSITION, nulls_last=False).unique(
        stream.key, keep="last", maintain_order=True
    )
    read, lost = sum(b.read_count for b in batches), rows.height - kept.height
    total = Batch(stream, kept.drop(POSITION), {}, read, batches[0].shape, lost)
    for child in stream.children:
        frame = stacked(b.children[child.table] for b in batches)
        if kept.height < rows.height:
            frame = frame.join(kept.select(POSITION), on=POSITION, how="semi")
        frame, key = frame.drop(POSITION), [*stream.key, *child.key]
        total.children[child.table] = frame.unique(key, keep="last", maintain_order=True)
        _note_lost_children(total, child.table, frame, key)
    if lost:
        _note_lost_versions(total, rows)
    for batch in batches:
        total.quarantine += batch.quarantine
        total.drift += batch.drift
        total.present |= batch.present
        total.accounts |= batch.accounts
        total.examples = batch.examples | total.examples
    return total


def together(batches: Mapping[str, Batch]) -> tuple[pl.DataFrame, dict[str, pl.DataFrame], dict[str, int]]:
    """Combined batches of several slices as one: rows with the `slice_id` (the key in `batches`) that brought them, children, and how many rows each lost.

    A row that two slices brought, since windows overlap and rows move, is kept once: the newest version, with its children.
    """
    stream = next(iter(batches.values())).stream

    def stacked(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(frame.with_columns(pl.lit(name).alias("slice_id")) for name, frame in frames.items())

    rows = stacked({name: batch.rows for name, batch in batches.items()})
    children = {c.table: stacked({n: b.children[c.table] for n, b in batches.items()}) for c in stream.children}
    lost: dict[str, int] = {}
    if len(batches) > 1 and rows.select(stream.key).is_duplicated().any():
        newest = rows.sort("updated_at", "fetched_at", nulls_last=False, maintain_order=True)
        kept = newest.unique(stream.key, keep="last", maintain_order=True)
        came, stayed = (dict(f.group_by("slice_id").len().iter_rows()) for f in (rows, kept))
        lost = {name: count - stayed.get(name, 0) for name, count in came.items()}
        rows, who = kept, [*stream.key, "slice_id"]
        children = {n: f.join(kept.select(who), on=who, how="semi") for n, f in children.items()}
    return rows, {name: frame.drop("slice_id") for name, frame in children.items()}, lost


def _note_lost_versions(total: Batch, rows: pl.DataFrame) -> None:
    """Drift where a record came several times on end, otherwise each time. One that changed between two pages has another `updated_at` there.

    A second walk of the list brings each record again, but not on end: what is written anew for each answer, such as a signed link, says nothing there.
    """
    version, other = [*total.stream.key, "updated_at"], pl.col("content_hash")
    beside = [
        pl.all_horizontal(other != other.shift(step), *(pl.col(name) == pl.col(name).shift(step) for name in version))
        for step in (1, -1)
    ]
    twice = rows.filter(pl.any_horizontal(beside))
    if twice.height:
        total.drift[REPEATED] += twice.height
        total.examples[REPEATED] = str(twice.get_column(total.stream.key[-1])[0])


def _note_lost_children(total: Batch, table: str, frame: pl.DataFrame, key: list[str]) -> None:
    """Drift where one record lists a child twice, with different values: the last one counts."""
    kept = total.children[table].height
    if kept == frame.height:
        return
    distinct = frame.unique(maintain_order=True)
    if lost := distinct.height - kept:
        drift = DriftKey("bad_value", table, "the same key twice in one list, with different values")
        total.drift[drift] += lost
        twice = distinct.filter(distinct.select(key).is_duplicated())
        total.examples[drift] = str(twice.get_column(total.stream.key[-1])[0])
