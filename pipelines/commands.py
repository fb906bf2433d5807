"""What the commands that write do, whole, without a face: a sync, and shaping the stored documents again; each ends with publishing.

What lives here: the calls, in order. What does not: options, output and exit codes (`cli`), and every rule (`sync`, `renormalise`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, tzinfo

from pipelines import plan
from pipelines.drift import unfit
from pipelines.ending import noted_end
from pipelines.plan import Request, Window
from pipelines.renormalise import Seen, erase_redacted, renormalise_stream
from pipelines.run import new_run_id, open_run
from pipelines.streams import ACCOUNTS, BUILT_IN, Stream, generic, shape_of, streams_of
from pipelines.sync import RunReport, publish_run, sync_all
from pipelines.zones import account_zones
from resources.contract import Contract
from resources.errors import UsageError, WarehouseError, must_exist
from resources.files import copies_of
from resources.settings import Settings
from resources.state import StandingBrake
from resources.warehouse import Warehouse, Writer

STARTED_BY = "cli"
NOT_ANEW = (
    "{path} was not written anew, since its disk has no room for it once more: what was taken out or replaced can still be read from the bytes of both files. "
    "Make room there, and run appointedd-warehouse renormalise again."
)
COPY = "{path}, a copy from before an upgrade, still holds what was taken out: delete it."


@dataclass
class RenormaliseReport(RunReport):
    """As `RunReport`; `rows` has (stream, rows read, rows changed, texts out of which redacted members were taken) instead of reports of reading.

    `emptied`: sentences for columns that held values and hold none any more.
    """

    rows: list[tuple[str, int, int, int]] = field(default_factory=list)
    own_problems: list[str] = field(default_factory=list)
    own_warnings: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why the run is red."""
        return self.own_problems + self.emptied + super().problems

    @property
    def warnings(self) -> list[str]:
        """What a person should know, though nothing is missing."""
        return self.own_warnings + self.findings


def chosen_streams(contract: Contract, names: Sequence[str] | None) -> list[Stream]:
    """Streams by name, each once and in the order of a run; all of them where none is named."""
    known = streams_of(contract)
    for name in names or ():
        if name not in known:
            off = f"; {name} is switched off in the contract" if name in contract.streams else ""
            raise UsageError(f"There is no stream {name!r}; there are {', '.join(known)}{off}.")
    return [stream for name, stream in known.items() if not names or name in names]


def change_days(first: date, last: date, zone: tzinfo) -> Window:
    """The change days from `first` to `last`, both included, as a window of time."""
    if first > last:
        raise UsageError(f"--from {first} is after --to {last}.")
    try:
        return plan.change_days(first, last, zone)
    except OverflowError:
        raise UsageError(f"--from {first} --to {last} goes beyond the years that can be told.") from None


def sync_once(
    settings: Settings, contract: Contract, request: Request, streams: Sequence[Stream], version: str
) -> RunReport:
    """Read what the request asks for, commit it, check and publish; `streams` as chosen, the accounts are always read."""
    warehouse = Warehouse(settings)
    run_id = new_run_id()
    with open_run(settings, contract, warehouse, request, run_id=run_id, started_by=STARTED_BY, version=version) as run:
        report = RunReport(run_id, request.kind, sync_all(run, [s for s in streams if s is not ACCOUNTS]))
    _publish(warehouse, report, version)
    if request.window is not None and request.window.until > run.end:
        seen = (
            "the last of these days is not over yet"
            if request.window.since < run.end
            else "none of these days has begun"
        )
        told = f"By the API's clock ({run.end:%Y-%m-%d %H:%M} UTC) {seen}; changes still to come are the next sync's."
        report.findings.insert(0, told)
    return report


def renormalise_once(
    settings: Settings, contract: Contract, streams: Sequence[Stream], version: str
) -> RenormaliseReport:
    """Shape the stored documents of some streams again, without the API; check and publish. A contract that does not fit makes the run red.

    Where it leaves a column empty that held values, nothing is published, so that analysts keep what they have until it is put right.
    """
    warehouse = Warehouse(settings)
    must_exist(warehouse.path)
    report = RenormaliseReport(new_run_id(), "renormalise", [])

    def end(writer: Writer, ended: Sequence[str]) -> None:
        writer.end_run(report.run_id, [*report.problems, *ended], report.own_warnings)

    purpose = f"renormalise, run {report.run_id}"
    with noted_end(warehouse, purpose, report.run_id, "", end) as writer:
        writer.ensure_tables([s.name for s in streams if s.is_generic])
        writer.start_run(report.run_id, report.kind, STARTED_BY, version, warehouse.limits)
        # Accounts first: the zones that other streams are read with may come from them.
        if ACCOUNTS in streams:
            _shape_again(writer, ACCOUNTS, contract, {}, report)
        zones = account_zones(writer, settings, contract, report.own_warnings)
        for stream in streams:
            if stream is not ACCOUNTS:
                _shape_again(writer, stream, contract, zones, report)
        for stream in _switched_off(writer, contract, streams):
            if erased := erase_redacted(writer, stream, contract):
                report.rows.append((stream.name, 0, 0, erased))
        if not writer.write_anew():
            report.own_warnings.append(NOT_ANEW.format(path=warehouse.path))
        if any(erased for *_, erased in report.rows):
            report.own_warnings += [COPY.format(path=path) for path in copies_of(warehouse.path)]
    if not report.emptied:
        _publish(warehouse, report, version)
    return report


def _shape_again(
    writer: Writer, stream: Stream, contract: Contract, zones: Mapping[str, str], report: RenormaliseReport
) -> None:
    """Shape one stream again, take out of it what is redacted now, and put into the report what came of it."""
    seen, columns = Seen(), [column.name for column in stream.columns]
    filled = writer.filled(stream.name, columns)
    shape_now = shape_of(stream, contract)
    writer.note_shape(stream.name, shape_now, of_all_rows=False)  # it may be stopped half-way
    read, changed = renormalise_stream(writer, stream, contract, zones, seen=seen)
    writer.note_shape(stream.name, shape_now, of_all_rows=True)
    report.rows.append((stream.name, read, changed, erase_redacted(writer, stream, contract)))
    report.own_problems += unfit(stream.name, seen.drift, read)
    report.emptied += _emptied(stream, contract, filled - writer.filled(stream.name, columns))
    if seen.at is not None:
        found = [(k.kind, k.path, k.detail, count, seen.examples.get(k)) for k, count in seen.drift.items()]
        writer.note_drift(stream.name, found, seen.at)


def _emptied(stream: Stream, contract: Contract, columns: Collection[str]) -> list[str]:
    """A sentence where columns hold no value any more; none of those that the contract gives no name, since that is how a column is left empty."""
    aliases = contract.streams[stream.name].columns
    names = [f"{name} ({', '.join(aliases[name])})" for name in sorted(columns) if aliases.get(name)]
    if not names:
        return []
    told = (
        f"{stream.name}: no stored record has a fitting value for {', '.join(names)}, and the columns held values before. The published file is left as it "
        f"was, and all values are in document: correct streams.{stream.name}.columns in the contract, then run appointedd-warehouse renormalise again."
    )
    return [told]


def _switched_off(writer: Writer, contract: Contract, chosen: Sequence[Stream]) -> list[Stream]:
    """Where all streams of the contract are chosen: those that it has no more, or has switched off, and whose tables stay."""
    if not set(streams_of(contract)) <= {stream.name for stream in chosen}:
        return []
    stored = [*BUILT_IN.values(), *map(generic, writer.generic_streams())]
    return [stream for stream in stored if stream not in chosen]


def release(settings: Settings, account: str | None, streams: Sequence[Stream]) -> list[StandingBrake]:
    """Let the next sweep of an account, by id or slug, retire what its brakes held back; gives all brakes that stand. Without an account, only that."""
    warehouse = Warehouse(settings)
    must_exist(warehouse.path)
    with warehouse.writer("release") as writer:
        brakes = writer.standing_brakes()
        if account is None:
            return brakes
        ids = {account, *(account_id for account_id, slug, _ in writer.accounts() if slug == account)}
        chosen = [b for b in brakes if b.account_id in ids and b.stream in {s.name for s in streams}]
        if not chosen:
            stand = ", ".join(f"{b.account_id} ({b.stream})" for b in brakes) or "none"
            raise UsageError(
                f"No sweep has stopped at {account!r}, so there is nothing to release. Brakes that stand: {stand}."
            )
        for brake in chosen:
            writer.release(brake)
        return writer.standing_brakes()


def _publish(warehouse: Warehouse, report: RunReport, version: str) -> None:
    """Publish; a file that cannot be published is a problem of the run, and what was read is reported all the same."""
    try:
        publish_run(warehouse, report, version)
    except (WarehouseError, OSError) as error:
        report.publish_problem = f"{warehouse.published_path} was not replaced: {error}"
