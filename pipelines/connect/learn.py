"""One contact, in order: the file's hints, then the live API, stream by stream, and what both come to.

What lives here: the order of the questions, and what is concluded for the whole. What does not: the questions themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pipelines.connect import belonging, changes, columns, empty, ends, ordering, paging, people, shapes, together
from pipelines.connect.described import endpoints
from pipelines.connect.edit import at
from pipelines.connect.findings import NO_PAST, Confidence, Finding, Learned, Line, Past
from pipelines.connect.matching import Matches, members_of
from pipelines.connect.paths import Paths
from pipelines.connect.places import rate_limit
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.connect.way_in import access_of, addresses, way_in
from pipelines.streams import ACCOUNTS, BUILT_IN, CUSTOMERS, streams_of
from resources.contract import Contract
from resources.openapi import Description
from resources.settings import Settings

FEW_ROWS = 20
# So many requests more may be made for each list that the contract adds.
MOST_OF_AN_ADDED_LIST = 40
WORST_SKEW_S = 60
# What may leave rows out unseen where it is not settled.
DOUBTS = ("cancelled in the default list", "participants")


def learn(settings: Settings, contract: Contract, description: Description | None, past: Past = NO_PAST) -> Learned:
    """Find out what can be found out, with GETs of the first API client only; raises `ApiError` where nothing can be asked, `SettingsError`."""
    learned = Learned()
    access = access_of(settings, description)
    learned.add(*addresses(access, description))
    with way_in(settings, contract, description, access, learned) as probe:
        _Contact(probe, settings, contract, description, learned, past).ask()
        learned.requests_count = probe.count
    return learned


@dataclass
class _Contact:
    """One contact under way. `seen`: the built-in lists; those that the contract adds are asked once these have shown how this API is asked."""

    probe: Probe
    settings: Settings
    contract: Contract
    description: Description | None
    learned: Learned
    past: Past
    seen: dict[str, Seen] = field(default_factory=dict)

    def ask(self) -> None:
        """All questions, those first whose answers the others need."""
        live, added = self._find_lists()
        if live:
            self._ask_lists(live, added)

    def _find_lists(self) -> tuple[list[Seen], list[Seen]]:
        """The built-in lists that were found, and those that the contract adds, which are stored generically; neither where no list at all is there."""
        endpoint_of = endpoints(self.description, self.contract)
        for name, stream in streams_of(self.contract).items():
            if not stream.is_generic:
                self.seen[name] = Seen(stream, self.contract.streams[name], endpoint_of.get(name))
        base_url = self.settings.api_access().base_url
        paths = Paths(self.probe, self.contract, self.description, base_url, self.past)
        findings = [paths.find(one) for one in self.seen.values()]
        live = [s for s in self.seen.values() if s.first is not None]
        self.learned.lists_count = len(live)
        self.probe.takes_null = True  # of lists that were found; a path is believed by a list alone
        if not live:
            self.learned.add(*paths.none_found(findings))
            self.learned.findings = [replace(f, lines=()) for f in self.learned.findings]
            return [], []
        self.learned.add(*findings)
        added: list[Seen] = []
        for name in self.contract.streams:
            if name in BUILT_IN:
                continue
            finding, one = paths.kept_as_documents(name, endpoint_of.get(name))
            self.learned.add(finding)
            added += [one] if one else []
        self.probe.most_requests += MOST_OF_AN_ADDED_LIST * len(added)
        return live, added

    def _ask_lists(self, live: Sequence[Seen], added: Sequence[Seen]) -> None:
        """All that is asked of the lists that were found."""
        probe, learned, past = self.probe, self.learned, self.past
        # Names are found on the built-in lists, and proven on all that are read by change time.
        lists = [*live, *added]
        changing = [s for s in lists if s.stream is not ACCOUNTS]
        is_strict, told = paging.refuses_unknown(probe, max(live, key=lambda s: len(s.rows)))
        learned.add(told, paging.page_size(probe, live, self.contract))
        learned.add(paging.next_link(probe, live, self.contract))
        for one in lists:
            self._sample(one)
        learned.add(paging.total(probe, live, self.contract))
        accounts = self._accounts()
        for one in lists:
            learned.add(shapes.types(one))
            columns.match_columns(one, self.contract)
        unnamed = self._reference(changing)
        if changing:
            learned.add(*ordering.order(probe, changing, self.contract))
        for one in lists:
            columns.match_columns(one, self.contract)
            self._columns(one)
        if changing:
            learned.add(*changes.filters(probe, changing, self.contract, past, is_strict=is_strict))
        learned.add(*belonging.account_filter(probe, changing, accounts, unnamed, self.contract, past))
        matched = self._bookings()
        learned.add(*empty.empty(probe, changing, self._settled()))
        learned.add(*together.together(probe, changing, self._settled(), unnamed, accounts))
        learned.add(*paging.filtered_total(probe, live, self._settled().document.total))
        for one in added:
            # What comes with its rows by the contract's own `include` came when all was sent together.
            for look in probe.answers_to(one):
                probe.add_included(one, look)
        unread = {
            finding.stream for finding in learned.findings if finding.need and finding.ability in ("forms", "instants")
        }
        for one in live:
            if one.name not in unread:
                learned.add(*columns.unfit_in_part(one, self._settled()))
        learned.add(shapes.secrets(lists, self.contract), shapes.singles(probe, changing))
        settled = self._settled()
        # Where no next link can be followed, it was told already what the pages do not tell.
        if not any(finding.need for finding in learned.findings if finding.ability == paging.NEXT_LINK):
            learned.add(*ends.ends(probe, lists, settled))
        learned.add(*ordering.wandering(probe, lists, settled))
        learned.add(*self._overruled())
        # An error may come from something before the API, without its headers.
        newest = next(look for look in reversed(probe.answers) if is_list(look))
        learned.add(self._clock(newest.fetched_at), self._pace(newest.headers))
        if forms := shapes.instant_forms(lists):
            values = "values of the columns that are instants"
            learned.add(Finding("", "instants", forms, values, "reads them", "certain"))
        self._conclude(live, matched)

    # Lists

    def _sample(self, one: Seen) -> None:
        """The largest page that is served, unfiltered; of the accounts all that can be had in a few pages."""
        page = self.probe.page(one)
        if not is_list(page):
            page = one.first or page
        self.probe.add_sample(one, page)
        following = self.probe.follow(page)
        one.is_all = following is None and not paging.goes_on(self.probe, page)
        read: set[str] = set()
        while one.stream is ACCOUNTS and following is not None and rows_of(following):
            if following.url in read or self.probe.is_spent:
                break
            read.add(following.url)
            self.probe.add_sample(one, following)
            following = self.probe.follow(following)

    def _accounts(self) -> list[str]:
        """The ids of the accounts that the API client sees."""
        accounts = self.seen["accounts"]
        if not accounts.rows and accounts.first is not None:
            told = "the list is empty"
            need = (
                "accounts: the API client sees no account at all. Check in Appointedd which accounts it may read, and that its creator is still an "
                "administrator of them."
            )
            self.learned.add(Finding("accounts", "accounts", "none", told, "would fail", "none", need=need))
        return list(accounts.rows)

    def _reference(self, changing: Sequence[Seen]) -> set[str]:
        """How rows name their account; the names found are the contract's from here on, so that no column takes them. A person's own lines stay."""
        findings, unnamed = belonging.reference(changing, self.seen["accounts"], self.contract)
        self.learned.add(*findings)
        lines = [line for f in findings for line in f.lines if line.dotted not in self.past.own_keys]
        names = {line.key[-1]: tuple(line.value) for line in lines}
        reference = self.contract.account_reference.model_copy(update=names)
        self.contract = self.contract.model_copy(update={"account_reference": reference})
        return unnamed

    def _settled(self) -> Contract:
        """The contract that a sync will find after this contact, as far as it is known: a person's own lines stay."""
        values = self.contract.model_dump()
        for line in self.learned.lines:
            if line.dotted not in self.past.own_keys:
                holder = values
                for name in line.key[:-1]:
                    holder = holder[name]
                holder[line.key[-1]] = line.value
        return Contract.model_validate(values)

    # Records

    def _columns(self, one: Seen) -> None:
        """What a list's columns came to; nothing of one of which nothing is known."""
        if not one.rows and one.endpoint is None:
            return
        self.learned.add(columns.level_of(one.stream, self.contract).finding("columns", one.matches))
        if not one.stream.is_generic:
            others = {column.name: column.kind for column in one.stream.columns if column.kind != "instant"}
            members = members_of(one.rows.values())
            self.learned.add(*columns.unread(one), *columns.links_alone(one))
            self.learned.add(*columns.wrong_forms(one.name, "columns", others, members, one.matches))
            if "document.money_in_minor_units" not in self.past.own_keys:
                self.learned.add(*columns.minor_units(one))
        if one.name == CUSTOMERS.name:
            table, records = "custom_field_columns", one.rows.values()
            self.learned.add(*columns.elements(one.name, "custom_fields", records, one.matches, table, self.contract))

    def _bookings(self) -> Matches | None:
        """What bookings and events have of their own; the matches of the bookings' participants, where some were seen."""
        matched = None
        live = {name: one for name, one in self.seen.items() if one.first is not None}
        if bookings := live.get("bookings"):
            customer_types = {*self.contract.streams["customers"].types}
            if customers := self.seen.get("customers"):
                customer_types |= customers.types
            findings, matched = people.participants(self.probe, bookings, self.contract, customer_types)
            self.learned.add(*findings)
        for one in (live[name] for name in ("bookings", "events") if name in live):
            self.learned.add(*shapes.cancelled(self.probe, one, self.contract, self.past))
            self.learned.add(*shapes.status_words(one, self.contract))
        return matched

    # The whole

    def _overruled(self) -> Iterator[Finding]:
        """A person's own lines that say otherwise than is due; they stay, as all of them do."""
        settled = self._settled().model_dump(mode="json")
        for line in self.learned.lines:
            own = at(settled, line.key)
            if line.is_due and own != line.value:
                need = (
                    f"{line.dotted}: your own line says {json.dumps(own)}, with which a sync may end red or miss rows ({line.why}). Make it "
                    f"{json.dumps(line.value)}, or take it out."
                )
                yield Finding("", "your own lines", line.dotted, line.why, "may miss rows", "none", need=need)

    def _clock(self, told_at: datetime | None) -> Finding:
        """The API's clock, by which completeness is measured, against this machine's."""
        if told_at is None:
            need = "The API's answers carry no Date header, so there is no clock to measure completeness by, and no sync can run."
            return Finding("", "clock", "no Date header", "the newest answer", "would fail", "none", need=need)
        skew = (datetime.now(UTC) - told_at).total_seconds()
        overlap = self.settings.sync_overlap_minutes
        # Were the records' own times as far behind, the overlap alone would catch them.
        if -skew / 60 > overlap / 2:
            minutes = overlap + math.ceil(-skew / 60)
            self.learned.hints.append(
                f"SYNC_OVERLAP_MINUTES={minutes}  # the API's Date is ahead of this machine's clock"
            )
        side = "ahead of" if skew > 0 else "behind"
        is_far = abs(skew) > WORST_SKEW_S
        found = f"this machine is {abs(skew):,.0f} s {side} it" if is_far else "the same as this machine's"
        return Finding("", "clock", found, "the Date header", "measures completeness by the API's", "certain")

    def _pace(self, headers: Mapping[str, str]) -> Finding:
        """How fast the API lets itself be asked, by its headers and by the requests that it put off."""
        text, per_second = rate_limit(headers)
        pace, wanted = self.probe.client.exchange.rate.per_second, self.settings.sync_requests_per_second
        if pace < wanted:
            text, per_second = f"HTTP 429 came{'; ' if text else ''}{text}", min(pace, per_second or pace)
        outcome = "keeps to SYNC_REQUESTS_PER_SECOND"
        if not text:
            return Finding("", "rate limit", "not told", "no header speaks of one", outcome, "low")
        if per_second is not None and per_second < wanted:
            self.learned.hints.append(f"SYNC_REQUESTS_PER_SECOND={per_second:.2g}  # told by the API: {text}")
        return Finding("", "rate limit", text, "answers, as they came", outcome, "likely")

    def _conclude(self, live: Sequence[Seen], participants: Matches | None) -> None:
        """What each stream's columns come to, and how far that can be trusted."""
        learned, known = self.learned, self.contract.known.empty_columns
        levels = {one.name: one.matches for one in live if one.rows or one.endpoint is not None}
        for name, matches in levels.items():
            learned.empty_columns[name], learned.unmapped[name] = list(matches.empty), list(matches.unmapped)
        if participants is not None:
            levels["bookings.participants"] = participants
            secret = {name for line in learned.lines if line.key == ("redact", "members") for name in line.value}
            learned.empty_columns["bookings"] += [f"participants.{column}" for column in participants.empty]
            learned.unmapped["bookings"] += [f"participants.{n}" for n in participants.unmapped if n not in secret]
        for one in live:
            learned.confidence[one.name] = self._confidence(one)
        empty = [f"{level}.{column}" for level, matches in levels.items() for column in matches.empty]
        # Where an earlier contact mapped all that came, a column that is not listed was fed then, and only these few rows lack its attribute.
        is_again = self.past.is_again
        fed = {level for level, matches in levels.items() if is_again and all(m.is_default for m in matches.found)}
        listed = [column for column in empty if column in known or column.rpartition(".")[0] not in fed]
        value = list(known) if set(known) == set(listed) else listed
        line = Line(("known", "empty_columns"), value, "nothing maps to them")
        learned.add(
            Finding("", "empty columns", str(len(empty)), "no attribute fits", "leaves them null", "likely", (line,))
        )

    def _confidence(self, one: Seen) -> tuple[Confidence, str]:
        own = [finding for finding in self.learned.findings if finding.stream == one.name]
        if any(finding.need for finding in own):
            return "none", "a person must fill in a line"
        if not one.rows:
            return "low", "the list is empty: nothing could be seen of its records"
        if unsure := [f.ability for f in own if f.ability in DOUBTS and f.confidence == "low"]:
            return "low", f"not settled: {', '.join(unsure)}"
        if len(one.rows) < FEW_ROWS and not (one.stream is ACCOUNTS and one.is_all):
            return "low" if len(one.rows) < 3 else "likely", f"only {len(one.rows)} rows to learn from"
        if unlike := [*one.matches.weak, *one.matches.misfits]:
            return "likely", f"read from names that are only plausible: {', '.join(unlike)}"
        return "certain", f"{len(one.rows)} rows, names that fit"
