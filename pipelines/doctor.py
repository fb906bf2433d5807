"""What must be right before a sync can be: settings, contract, tokens, one page of each stream, clock, disk, files, lease. One line each.

What lives here: the order, settings, contract and API: looking, and the cure for what is wrong. What does not: files (`doctor_files`), repairing, reading
more than one page of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipelines.accounts import nobody_lists
from pipelines.doctor_files import examine_files
from pipelines.doctor_lines import DoctorLine, State, failed
from pipelines.extract import NoAccountError
from pipelines.normalise import Batch, normalise
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.reading import filters_of
from pipelines.records import Fetched, index
from pipelines.streams import ACCOUNTS, Stream, changing
from pipelines.zones import choose, nobody_has_seen
from resources.appointedd import ApiClient, open_clients
from resources.contract import Contract, load_contract
from resources.errors import AbilityRefusedError, ApiError, ClientRefusedError, UsageError
from resources.pages import Page
from resources.settings import Settings, load_settings

NAMES_SHOWN = 5
WORST_SKEW = timedelta(seconds=60)
NO_ACCOUNT = (
    "it sees no account at all. Check in Appointedd which accounts the API client may read, and that its creator is still an administrator "
    "of them."
)


@dataclass
class _Seen:
    """The accounts that API clients list: id, slug and time zone. `whole_count`: clients whose list has one page, so that no account is missing here."""

    accounts: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    whole_count: int = 0


def examine() -> Iterator[DoctorLine]:
    """All lines, each as soon as it is known; what is wrong in one place does not keep the next from being looked at."""
    try:
        settings = load_settings()
    except UsageError as error:
        yield failed("settings", error)
        return
    access = contract = None
    try:
        access = settings.api_access()
        told = "\n".join([f"{access.base_url}, {_count(len(access.clients), 'API client')}", *access.doubts])
        yield DoctorLine("settings", "warning" if access.doubts else "ok", told)
    except UsageError as error:
        yield failed("settings", error)
    try:
        own = settings.appointedd_contract
        contract = load_contract(own)
        yield DoctorLine("contract", "ok", f"the default with {own} laid over it" if own else "the default")
    except UsageError as error:
        yield failed("contract", error)
    if contract and access:
        yield from _api(settings, contract)
    yield from examine_files(settings)


def _api(settings: Settings, contract: Contract) -> Iterator[DoctorLine]:
    try:
        seen, clients = _Seen(), open_clients(settings, contract)
    except UsageError as error:  # certificates or a proxy that the environment names
        yield failed("way to the API", error)
        return
    for client in clients:
        with client:
            yield from _client(client, settings, contract, seen)
    if seen.whole_count == len(clients):
        yield from _strangers(settings, {name for *names, _ in seen.accounts for name in names})
    without_zone = [slug or account_id for account_id, slug, zone in seen.accounts if zone is None]
    if without_zone:
        yield DoctorLine(
            "time zones",
            "warning",
            f"none is known for {_names(without_zone)}: epoch dates stay empty and local days use SYNC_TIME_ZONE={settings.sync_time_zone}. "
            f'Set SYNC_ACCOUNT_TIME_ZONES, such as {{"{without_zone[0]}": "Europe/London"}}.',
        )
    elif seen.accounts:
        yield DoctorLine("time zones", "ok", "known for every account that was seen")


def _strangers(settings: Settings, known: Set[str | None]) -> Iterator[DoctorLine]:
    """Accounts that the settings name and nobody lists."""
    chosen = sorted({name.removeprefix("!") for name in settings.sync_accounts} - known)
    if chosen:
        yield DoctorLine("SYNC_ACCOUNTS", "failed", nobody_lists(chosen), 1)
    zoned = sorted(settings.sync_account_time_zones.keys() - known)
    if zoned:
        yield DoctorLine("SYNC_ACCOUNT_TIME_ZONES", "warning", nobody_has_seen(zoned))


def _client(client: ApiClient, settings: Settings, contract: Contract, seen: _Seen) -> Iterator[DoctorLine]:
    """All lines of one API client; the accounts it sees are added to `seen`."""
    token, accounts = f"token of {client.name}", f"accounts of {client.name}"
    page, batch = None, None
    try:
        page, refused = first_page(client, ACCOUNTS, settings, None)
    except ClientRefusedError as error:
        yield failed(token, error)
        return
    except ApiError as error:
        yield DoctorLine(token, "warning", "not known, for the API gave no usable answer")
        yield failed(accounts, error)
        if client.exchange.traffic.retries:
            return  # it is the way to the API, not the account list: the other streams would only wait as long again
    else:
        now = datetime.now(UTC)
        yield DoctorLine(token, "ok", "issued and accepted")
        yield _skew(client, page, now)
        batch = normalise(ACCOUNTS, contract, _fetched(page), {})
        yield _accounts(accounts, page, batch, refused)
        for account_id, slug, sent in batch.rows.select("account_id", "slug", "time_zone").iter_rows():
            zone, _ = choose(account_id, slug, sent, settings.sync_account_time_zones)
            seen.accounts.append((account_id, slug, zone))
        seen.whole_count += page.next_url is None
    ids = batch.rows.get_column("account_id").to_list() if batch is not None else []
    only = ids[0] if len(ids) == 1 and page is not None and page.next_url is None else None
    for stream in changing(contract):
        name = f"{stream.name} of {client.name}"
        try:
            first, refused = first_page(client, stream, settings, page)
        except ApiError as error:
            yield failed(name, error)
        else:
            yield _stream(name, stream, client, first, _shaped(stream, contract, first, only), refused)


def first_page(
    client: ApiClient, stream: Stream, settings: Settings, accounts: Page | None
) -> tuple[Page, list[AbilityRefusedError]]:
    """One page of a stream with every parameter that a sync would send, and those the server refused.

    `accounts`: the page of accounts, whose `Date` is the newest instant asked for; None for the accounts themselves.
    """
    refused: list[AbilityRefusedError] = []
    since = until = None
    if accounts is not None:
        since, until = settings.history_start_at, accounts.fetched_at + timedelta(days=1)
    window = Window(BEGINNING, BEGINNING)
    piece = Slice(stream.name, client.name, "nightly", (), window, filter_since=since, filter_until=until)
    while True:
        walk = client.pages(stream.name, filters_of(piece, client), client.contract.streams[stream.name].queries[0])
        try:
            page = next(walk)
            if page.next_url is None:
                next(walk, None)  # nothing more is asked for; the client judges whether this end proves anything
        except AbilityRefusedError as refusal:
            client.do_without(refusal)
            refused.append(refusal)
        else:
            return page, refused


def _fetched(page: Page) -> list[Fetched]:
    included = index(page.included)
    return [Fetched(record, included, page.fetched_at) for record in page.records]


def _shaped(stream: Stream, contract: Contract, page: Page, only: str | None) -> Batch | None:
    """The page as rows; None where rows do not name their account and there may be more than one."""
    try:
        return normalise(stream, contract, _fetched(page), {}, only)
    except NoAccountError:
        return None


def _skew(client: ApiClient, page: Page, now: datetime) -> DoctorLine:
    skew = now - page.fetched_at
    name = f"clock against {client.name}"
    if abs(skew) <= WORST_SKEW:
        return DoctorLine(name, "ok", f"{abs(skew.total_seconds()):.0f} s apart")
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    return DoctorLine(
        name,
        "warning",
        f"this machine's clock is {abs(skew.total_seconds()):,.0f} s {ahead} the API's. Completeness never uses it, but schedules, logs and ages "
        f"do: set it (NTP).",
    )


def _accounts(name: str, page: Page, batch: Batch, refused: Sequence[AbilityRefusedError]) -> DoctorLine:
    labels = [label or account_id for account_id, label in batch.rows.select("account_id", "name").iter_rows()]
    if not labels:
        return DoctorLine(name, "failed", NO_ACCOUNT + _quarantined(batch), 1)
    count = f"{'at least ' if page.next_url else ''}{_count(len(labels), 'account')}: {_names(labels)}"
    state: State = "warning" if refused or batch.quarantine else "ok"
    return DoctorLine(name, state, count + _quarantined(batch) + _refused(refused))


def _stream(
    name: str,
    stream: Stream,
    client: ApiClient,
    page: Page,
    batch: Batch | None,
    refused: Sequence[AbilityRefusedError],
) -> DoctorLine:
    count = _count(len(page.records), "row")
    more = "more follow" if page.next_url else "no more"
    total = "" if page.total is None else f", {page.total:,} in total"
    seen = f"{count}, {more}{total}"
    if batch is None and client.has(stream.name, "account_filter"):
        told = f"{seen}; rows do not name their account, so each account is asked for alone."
        return DoctorLine(name, "warning", told)
    if batch is None:
        told = (
            f"{seen}; rows do not name their account, this API client sees several, and the contract has no account filter for this stream. Make "
            f"one API client for each account and list them in APPOINTEDD_CLIENTS."
        )
        return DoctorLine(name, "failed", told, 1)
    if page.records and batch.rows.height == 0:
        return DoctorLine(name, "failed", f"{seen}; none could become a row{_quarantined(batch)}", 1)
    strangers = sorted({key.path for key in batch.drift if key.kind == "unknown_member"})
    unknown = f"; members that the contract does not name: {_names(strangers)}" if strangers else ""
    state: State = "warning" if refused or batch.quarantine else "ok"
    return DoctorLine(name, state, seen + unknown + _quarantined(batch) + _refused(refused))


def _quarantined(batch: Batch) -> str:
    if not batch.quarantine:
        return ""
    return f"; {len(batch.quarantine)} of {batch.read_count} records do not fit the contract: {batch.quarantine[0][0]}"


def _refused(refused: Sequence[AbilityRefusedError]) -> str:
    return "".join(f"\n{refusal}" for refusal in refused)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
