"""The imperative core: in which order a run reads, commits, checks and publishes.

What lives here: the order of things. What does not: decisions about time (`plan`), shape (`normalise`) or completeness (`completeness`), HTTP, SQL,
Dagster. The command line and the assets call the same functions, so both leave the same warehouse.
A failure ends its slice, its API client or its stream, never another's; it is written down as a problem, and a run with a problem is red.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pipelines.accounts import all_accounts
from pipelines.ending import note_end, note_end_of_publishing, noted_end
from pipelines.first_load import FirstLoads
from pipelines.lanes import Asked, PlanAgain
from pipelines.plan import BEGINNING, Can, Request, Slice, Window, plan
from pipelines.progress import Tell
from pipelines.proof import ignored_filter
from pipelines.run import Run, StreamReport, counted
from pipelines.splitting import CoarseFilterError
from pipelines.streams import Stream, asked_of
from pipelines.walker import Walker
from resources.contract import Contract
from resources.errors import (
    AbilityRefusedError,
    ApiError,
    PublishBlockedError,
    PublishedUnrecordedError,
    told,
)
from resources.publish import publish
from resources.state import State
from resources.warehouse import Warehouse, Writer

log = logging.getLogger(__name__)


def plan_stream(run: Run, stream: Stream, windows: Mapping[str, Sequence[Window]], request: Request) -> list[Slice]:
    """The slices of one stream for all API clients of a run, newest first."""
    slices = []
    for name, client in run.clients.items():
        if (name, stream.name) in run.given_up:
            continue
        can = Can(
            filters=client.has(stream.name, "filters"),
            upper_bound=client.has(stream.name, "upper_bound"),
            account_filter=client.has(stream.name, "account_filter"),
            needs_account=run.asks_alone(stream, name),
        )
        slices += plan(
            stream.name,
            name,
            request,
            {account: windows.get(account, ()) for account in run.accounts[name]},
            end=run.end,
            overlap=timedelta(minutes=run.settings.sync_overlap_minutes),
            can=can,
        )
    return slices


def asks_for_more(stored: State, stream: Stream, contract: Contract) -> bool:
    """Whether the contract asks for more of a list than was asked for when its windows were committed."""
    before = stored.asked(stream.name)
    return before is not None and not asked_of(stream, contract) <= before


def stored_windows(run: Run, stored: State, stream: Stream) -> dict[str, list[Window]]:
    """Committed windows by account, as far as they count for the API client that serves it in this run, and for what the contract asks for."""
    if asks_for_more(stored, stream, run.contract):
        return {}
    served = {account: name for name, accounts in run.accounts.items() for account in accounts}
    names = [client.name for client in run.settings.api_access().clients]
    return {
        account: [Window(since or BEGINNING, until) for since, until in own]
        for account, own in stored.windows(stream.name, served, names).items()
    }


def sync_streams(run: Run, streams: Sequence[Stream], tell: Tell = log.info) -> list[StreamReport]:
    """Read and commit streams side by side, as the run's request says; gives what was done, problems included, in their order.

    Raises only what concerns the whole warehouse.
    """
    asked = [Asked(stream, run.request, StreamReport(stream.name)) for stream in streams]
    reports = [one.report for one in asked]
    with _written_down(run, reports) as writer:
        if run.clients:
            for one in asked:
                _note_asked(writer, one, run.contract)
        _walk_plans(run, asked, writer, tell)
        if run.request.kind == "nightly":
            _be_sure_of_first_loads(run, asked, writer, tell)
    return reports


def _note_asked(writer: Writer, one: Asked, contract: Contract) -> None:
    """Take away the windows of a list where the contract has come to ask for more of it: no night would bring what they were not asked for."""
    name, parts = one.stream.name, asked_of(one.stream, contract)
    if asks_for_more(writer, one.stream, contract):
        writer.disbelieve(name, BEGINNING)
        one.report.warnings.append(
            f"{name}: the contract asks for another list than was read so far, or for more of it (streams.{name}.path, .queries or .include), so a "
            f"nightly reads all of it again."
        )
    if writer.asked(name) != parts:
        writer.note_asked(name, parts)


@contextmanager
def _written_down(run: Run, reports: Sequence[StreamReport]) -> Iterator[Writer]:
    """The writer for some streams of a run. When they are read, or reading them ends early, the run's row is written with what their reports say."""
    names = ", ".join(report.stream for report in reports)

    def end(writer: Writer, ended: Sequence[str]) -> None:
        served = all_accounts(run.accounts)
        for report in reports:
            marks = writer.watermarks(report.stream)
            # Where no account list could be read, what is stored is still complete as far as it was.
            report.watermarks = {account: marks.get(account) for account in sorted(served or marks)}
        problems = [*(text for report in reports for text in report.problems), *ended]
        warnings = [text for report in reports for text in report.warnings]
        if problems:
            # Dagster skips what comes after a red step. The command line publishes all the same, and that ends the row once more.
            run.ends_with_publishing = False
        writer.end_run(run.run_id, problems, warnings, is_over=not run.ends_with_publishing)
        if not run.ends_with_publishing and not ended:  # whoever was told to end has no time for it
            writer.put_in_order()

    purpose = f"{run.request.kind} of {names}, run {run.run_id}"
    with noted_end(run.warehouse, purpose, run.run_id, f"{names}: not read to the end: ", end) as writer:
        writer.start_run(run.run_id, run.request.kind, run.started_by, run.version, run.warehouse.limits)
        yield writer


def _be_sure_of_first_loads(run: Run, asked: Sequence[Asked], writer: Writer, tell: Tell) -> None:
    """A first load that was read in pieces is whole when the API counts as many records as are stored; else the list is walked once more."""
    loads = FirstLoads(run, asked, writer)
    loads.prove()
    for load in loads.unsure():
        # Records that were added while the list was read come with the newest stretch, read once more; it takes a page or two.
        _walk_plans(run, [load.asked], writer, tell, load.of_its_clients)
    loads.prove()
    for load in loads.unsure():
        tell(f"{load.asked.stream.name}: first load; reading the list once more as a whole, to be sure of it")
        _walk_plans(run, [replace(load.asked, request=Request("sweep"))], writer, tell, load.of_its_accounts)


def _walk_plans(
    run: Run,
    asked: Sequence[Asked],
    writer: Writer,
    tell: Tell,
    chosen: Callable[[Sequence[Slice]], Sequence[Slice]] = list,
) -> None:
    """Plan, read and commit; plan a stream again where the server refuses or loses an ability, or where rows turn out not to name their account.

    `chosen`: those of a plan's slices that are to be read.
    """
    while asked:
        slices = []
        for one in asked:
            slices += plan_stream(run, one.stream, stored_windows(run, writer, one.stream), one.request)
        found = Walker(run, asked, writer, tell).walk(chosen(slices))
        asked = [one for one in asked if one.stream.name in found]
        for one in asked:
            with counted(one.report, run.clients.values()):
                _learn(run, one, found[one.stream.name], writer, tell)


def _learn(run: Run, asked: Asked, finding: PlanAgain, writer: Writer, tell: Tell) -> None:
    """Take down why a stream's plan must be made again, or that an API client's rows of it cannot be told apart."""
    stream, report = asked.stream, asked.report
    if isinstance(finding, AbilityRefusedError):
        _do_without(run, asked, finding, tell)
        return
    name = finding.api_client
    if isinstance(finding, CoarseFilterError):
        tell(
            f"{stream.name}: the API's filter by change time lets other rows through, or its totals count them, so the list is read page after page. "
            f"Does streams.{stream.name}.columns.updated_at in the contract name what parameters.updated_since filters by?"
        )
        run.uncut.add((name, stream.name))
        return
    run.needs_account.add((name, stream.name))
    planned = plan_stream(run, stream, stored_windows(run, writer, stream), asked.request)
    try:
        problem = ignored_filter(run, stream, name, [piece for piece in planned if piece.api_client == name])
    except ApiError as error:
        problem = told(name, error)
    if problem is not None:
        report.problems.append(problem)
        run.given_up.add((name, stream.name))


def _do_without(run: Run, asked: Asked, refusal: AbilityRefusedError, tell: Tell) -> None:
    """Ask without an ability from here on; where an API client can do nothing without it, its rows of the stream are given up."""
    stream, report = asked.stream, asked.report
    # An ability that is not used any more, and is refused all the same, would be planned in the same way for ever.
    is_again = all((refusal.stream, refusal.ability) in client.without for client in run.clients.values())
    for client in run.clients.values():
        client.do_without(refusal)
    stuck = {
        (name, stream.name)
        for name in run.clients
        if is_again or (refusal.ability == "account_filter" and (name, stream.name) in run.needs_account)
    }
    run.given_up |= stuck
    if stuck:
        report.problems.append(
            f"{stream.name}: the rows do not name their account, and the API does not keep to {run.contract.parameters.account!r}, so nobody can tell whose "
            f"they are: make one API client for each account."
            if refusal.ability == "account_filter"
            else f"{stream.name}: the API refuses again what is not sent any more. ({refusal})"
        )
    else:
        tell(str(refusal))
        report.warnings.append(str(refusal))


@dataclass
class RunReport:
    """What a whole run did. `findings`: what the warning checks found, as sentences. `published`: whether the analysts' file is new."""

    run_id: str
    kind: str
    streams: list[StreamReport]
    findings: list[str] = field(default_factory=list)
    published: bool = False
    publish_problem: str | None = None

    @property
    def problems(self) -> list[str]:
        """Why the run is red; empty where it is complete."""
        own = [self.publish_problem] if self.publish_problem else []
        return [p for report in self.streams for p in report.problems] + own

    @property
    def warnings(self) -> list[str]:
        """What a person should know, though nothing is missing."""
        return [w for report in self.streams for w in report.warnings] + self.findings


def sync_all(run: Run, streams: Sequence[Stream]) -> list[StreamReport]:
    """The accounts' report and one for each stream, in order. A stream that fails does not keep the others from being read."""
    return [run.accounts_report, *(sync_streams(run, streams) if streams else [])]


def publish_run(warehouse: Warehouse, report: RunReport, version: str) -> None:
    """Check and publish what is committed, also after a partly red run; what the checks say goes into the report."""
    try:
        report.findings = [str(finding) for finding in publish(warehouse, report.run_id, version)]
        report.published = True
    except PublishedUnrecordedError as unrecorded:
        report.published, report.publish_problem = True, str(unrecorded)
        note_end(warehouse, report.run_id, report.problems)
    except PublishBlockedError as blocked:
        report.publish_problem = str(blocked)
        with warehouse.writer(f"noting what kept run {report.run_id} from publishing") as writer:
            writer.end_run(report.run_id, report.problems, [])
            writer.put_in_order()
    except BaseException as error:
        # The run's row must not stand as running.
        note_end_of_publishing(warehouse, report.run_id, error)
        raise
