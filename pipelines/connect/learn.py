"""One contact, in order: the file's hints, then the live API, stream by stream, and what both come to.

What lives here: the order of the questions, and what is concluded for the whole. What does not: the questions themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pipelines.connect import belonging, changes, columns, empty, ends, ordering, paging, people, shapes, together
from pipelines.connect.described import Hints, endpoints, hints
from pipelines.connect.findings import NO_PAST, Confidence, Finding, Learned, Line, Past
from pipelines.connect.matching import Matches
from pipelines.connect.paths import Paths
from pipelines.connect.places import rate_limit
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.connect.way_in import access_of, addresses, way_in
from pipelines.streams import ACCOUNTS, BUILT_IN, CUSTOMERS, streams_of
from resources.contract import AccountReference, Contract
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


class _Contact:
    """One contact under way."""

    def __init__(
        self,
        probe: Probe,
        settings: Settings,
        contract: Contract,
        description: Description | None,
        learned: Learned,
        past: Past,
    ) -> None:
        self.past = past
        self.probe, self.settings, self.contract, self.learned = probe, settings, contract, learned
        self.description = description
        # Those that the contract adds are asked once the others have shown how this API is asked.
        self.streams = {name: stream for name, stream in streams_of(contract).items() if not stream.is_generic}
        self.endpoints = endpoints(description, contract)
        self.seen = {
            name: Seen(stream, contract.streams[name], self.endpoints.get(name))
            for name, stream in self.streams.items()
        }
        self.hints: dict[str, Hints] = {name: hints(self.endpoints.get(name)) for name in self.streams}
        self.matches: dict[str, Matches] = {}
        self.added: list[Seen] = []  # lists that the contract adds, which are stored generically

    def ask(self) -> None:
        """All questions, those first whose answers the others need."""
        paths = Paths(self.probe, self.contract, self.description, self.settings.api_access().base_url, self.past)
        findings = [paths.find(one) for one in self.seen.values()]
        live = [s for s in self.seen.values() if s.first is not None]
        self.learned.lists_count = len(live)
        self.probe.takes_null = True  # of lists that were found; a path is believed by a list alone
        if not live:
            self.learned.add(*paths.none_found(findings))
            self.learned.findings = [replace(f, lines=()) for f in self.learned.findings]
            return
        self.learned.add(*findings)
        for name in self.contract.streams:
            if name not in BUILT_IN:
                finding, added = paths.kept_as_documents(name, self.endpoints.get(name))
                self.learned.add(finding)
                self.added += [added] if added else []
        self.probe.most_requests += MOST_OF_AN_ADDED_LIST * len(self.added)
        self.hints |= {one.name: hints(one.endpoint) for one in self.added}
        # Names are found on the built-in lists, and proven on all that are read by change time.
        lists = [*live, *self.added]
        changing = [s for s in lists if s.stream is not ACCOUNTS]
        largest = max(live, key=lambda s: len(s.rows))
        is_strict, told = paging.refuses_unknown(self.probe, largest)
        every_hint = [self.hints[s.name] for s in (largest, *live)]
        self.learned.add(told, paging.page_size(self.probe, live, every_hint, self.contract))
        self.learned.add(*paging.next_link(self.probe, live, self.contract))
        for one in lists:
            self._sample(one)
        self.learned.add(paging.total(self.probe, live, self.contract))
        accounts = self._accounts()
        for one in lists:
            self.learned.add(shapes.types(one, self.contract))
            columns.match_columns(one, self.contract)
        unnamed = self._reference(changing, accounts)
        if changing:
            self.learned.add(*ordering.order(self.probe, changing, self.hints, self.contract))
        for one in lists:
            self.matches[one.name] = columns.match_columns(one, self.contract)
            self._columns(one)
        if changing:
            self.learned.add(
                *changes.filters(self.probe, changing, self.hints, self.contract, self.past, is_strict=is_strict)
            )
        self.learned.add(
            *belonging.account_filter(self.probe, changing, self.hints, accounts, unnamed, self.contract, self.past)
        )
        matched = self._bookings()
        self.learned.add(*empty.empty(self.probe, changing, self._settled_contract()))
        self.learned.add(*together.together(self.probe, changing, self._settled_contract(), unnamed, accounts))
        if (ignoring := paging.filtered_total(self.probe, live, self._settled("document", "total"))) is not None:
            self.learned.add(ignoring)
        for one in self.added:
            # What comes with its rows by the contract's own `include` came when all was sent together.
            for look in self.probe.answers_to(one):
                self.probe.add_included(one, look)
        self.learned.add(shapes.secrets(lists, self.contract))
        self.learned.add(shapes.singles(self.probe, changing))
        self.learned.add(*self._ends(lists), *self._wandering(lists))
        self.learned.add(*self._clock(lists))
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
        if one.stream is ACCOUNTS:
            read: set[str] = set()
            while (
                following is not None and following.url not in read and rows_of(following) and not self.probe.is_spent
            ):
                read.add(following.url)
                self.probe.add_sample(one, following)
                following = self.probe.follow(following)

    def _accounts(self) -> list[str]:
        ids = list(self.seen["accounts"].rows)
        if not ids and self.seen["accounts"].first is not None:
            need = (
                "accounts: the API client sees no account at all. Check in Appointedd which accounts it may read, and that its creator is still an "
                "administrator of them."
            )
            self.learned.add(
                Finding("accounts", "accounts", "none", "the list is empty", "would fail", "none", need=need)
            )
        return ids

    def _reference(self, changing: Sequence[Seen], accounts: Sequence[str]) -> set[str]:
        """How rows name their account; the names found are the contract's from here on, so that no column takes them."""
        types = {str(row.get("type")) for row in self.seen["accounts"].rows.values()}
        findings, unnamed = belonging.reference(changing, set(accounts), types, self.contract)
        self.learned.add(*findings)
        own = self.contract.account_reference
        names = {line.key[-1]: tuple(line.value) for f in findings for line in f.lines}
        reference = AccountReference(
            relationships=names.get("relationships", own.relationships),
            attributes=names.get("attributes", own.attributes),
        )
        self.contract = self.contract.model_copy(update={"account_reference": reference})
        return unnamed

    def _ends(self, lists: Sequence[Seen]) -> list[Finding]:
        """What tells the end of a list, once it is known where totals stand and which lists are read in windows."""
        windowed = {
            one.name
            for one in lists
            if one.stream is not ACCOUNTS
            and self._settled("abilities", "filters")
            and self._settled("streams", one.name, "filters")
        }
        if any(f.need for f in self.learned.findings if f.ability == "next link"):
            return []  # what pages do not tell was told already
        plain = {self._settled("parameters", name) for name in ("page_size", "sort", "include", "account")}
        contract = self._settled_contract()
        return ends.ends(self.probe, lists, contract, contract.document.total, windowed, plain)

    def _wandering(self, lists: Sequence[Seen]) -> list[Finding]:
        """Lists without an order, known once it is known which order the sync asks for."""
        is_on = self._settled("abilities", "sort") and self._settled("parameters", "sort")
        ordered = {one.name for one in lists if is_on and self._settled("streams", one.name, "sort")}
        return ordering.wandering(self.probe, lists, ordered, self.contract)

    def _settled_contract(self) -> Contract:
        """The contract that a sync will find after this contact, as far as it is known: a person's own lines stay."""
        values = self.contract.model_dump()
        for line in self.learned.lines:
            if line.dotted not in self.past.own_keys:
                holder = values
                for name in line.key[:-1]:
                    holder = holder[name]
                holder[line.key[-1]] = line.value
        return Contract.model_validate(values)

    def _settled(self, *key: str) -> Any:
        """What the sync will find under a key: what was learned, else the contract's."""
        value: Any = self.contract
        for name in key:
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        return next((line.value for line in self.learned.lines if line.key == key), value)

    # Records

    def _columns(self, one: Seen) -> None:
        if not one.rows and one.endpoint is None:
            return
        aliases = one.names.columns
        prefix = ("streams", one.name, "columns")
        matched = self.matches[one.name]
        self.learned.add(columns.columns_finding(one.name, "columns", matched, prefix, aliases))
        if not one.stream.is_generic and (finding := columns.unread(one, matched)) is not None:
            self.learned.add(finding)
        if one.name == CUSTOMERS.name:
            found = columns.elements(
                one.name, "custom_fields", one.rows.values(), matched, "custom_field_columns", self.contract
            )
            self.learned.add(*found)

    def _bookings(self) -> Matches | None:
        matched = None
        bookings, customers = self.seen.get("bookings"), self.seen.get("customers")
        if bookings is not None and bookings.first is not None:
            customer_types = {str(r.get("type")) for r in customers.rows.values()} if customers else set()
            findings, matched = people.participants(
                self.probe,
                bookings,
                self.hints["bookings"],
                self.contract,
                customer_types | set(self.contract.streams["customers"].types),
            )
            self.learned.add(*findings)
        for name in ("bookings", "events"):
            one = self.seen.get(name)
            if one is not None and one.first is not None:
                self.learned.add(*shapes.cancelled(self.probe, one, self.hints[name], self.contract, self.past))
                self.learned.add(*shapes.status_words(one, self.contract))
        return matched

    # The whole

    def _clock(self, live: Sequence[Seen]) -> Iterator[Finding]:
        # An error may come from something before the API, without its headers.
        newest = next(look for look in reversed(self.probe.answers) if is_list(look))
        if newest.fetched_at is None:
            need = "The API's answers carry no Date header, so there is no clock to measure completeness by, and no sync can run."
            yield Finding("", "clock", "no Date header", "the newest answer", "would fail", "none", need=need)
        else:
            skew = (datetime.now(UTC) - newest.fetched_at).total_seconds()
            is_far = abs(skew) > WORST_SKEW_S
            side = "ahead of" if skew > 0 else "behind"
            found = f"this machine is {abs(skew):,.0f} s {side} it" if is_far else "the same as this machine's"
            yield Finding("", "clock", found, "the Date header", "measures completeness by the API's", "certain")
            overlap = self.settings.sync_overlap_minutes
            # Were the records' own times as far behind, the overlap alone would catch them.
            if -skew / 60 > overlap / 2:
                minutes = overlap + math.ceil(-skew / 60)
                self.learned.hints.append(
                    f"SYNC_OVERLAP_MINUTES={minutes}  # the API's Date is ahead of this machine's clock"
                )
        text, per_second = rate_limit(newest.headers)
        pace = self.probe.client.exchange.rate.per_second
        if pace < self.settings.sync_requests_per_second:
            text, per_second = f"HTTP 429 came{'; ' if text else ''}{text}", min(pace, per_second or pace)
        if text:
            yield Finding(
                "", "rate limit", text, "answers, as they came", "keeps to SYNC_REQUESTS_PER_SECOND", "likely"
            )
            if per_second is not None and per_second < self.settings.sync_requests_per_second:
                self.learned.hints.append(f"SYNC_REQUESTS_PER_SECOND={per_second:.2g}  # told by the API: {text}")
        else:
            yield Finding(
                "", "rate limit", "not told", "no header speaks of one", "keeps to SYNC_REQUESTS_PER_SECOND", "low"
            )
        if forms := shapes.instant_forms(live):
            yield Finding("", "instants", forms, "values of the columns that are instants", "reads them", "certain")

    def _conclude(self, live: Sequence[Seen], matched: Matches | None) -> None:
        empty: list[str] = []
        for one in live:
            result = self.matches[one.name]
            if one.rows or one.endpoint is not None:
                self.learned.empty_columns[one.name] = list(result.empty)
                empty += [f"{one.name}.{column}" for column in result.empty]
                self.learned.unmapped[one.name] = list(result.unmapped)
            self.learned.confidence[one.name] = self._confidence(one, result)
        if matched is not None:
            self.learned.empty_columns["bookings"] += [f"participants.{column}" for column in matched.empty]
            empty += [f"bookings.participants.{column}" for column in matched.empty]
            keys = {name for line in self.learned.lines if line.key == ("redact", "members") for name in line.value}
            self.learned.unmapped["bookings"] += [f"participants.{n}" for n in matched.unmapped if n not in keys]
        known = self.contract.known.empty_columns
        # Where an earlier contact mapped all that came, a column that is not listed was fed then, and only these few rows lack its attribute.
        fed = {f"{one.name}." for one in live if self._is_as_before(self.matches[one.name])}
        if matched is not None and self._is_as_before(matched):
            fed.add("bookings.participants.")
        listed = [c for c in empty if c in known or c[: c.rindex(".") + 1] not in fed]
        value = list(known) if set(known) == set(listed) else listed
        line = Line(("known", "empty_columns"), value, "nothing maps to them")
        self.learned.add(
            Finding("", "empty columns", str(len(empty)), "no attribute fits", "leaves them null", "likely", (line,))
        )

    def _is_as_before(self, result: Matches) -> bool:
        return self.past.is_again and all(m.is_default for m in result.found)

    def _confidence(self, one: Seen, result: Matches) -> tuple[Confidence, str]:
        if any(f.need for f in self.learned.findings if f.stream == one.name):
            return "none", "a person must fill in a line"
        if not one.rows:
            return "low", "the list is empty: nothing could be seen of its records"
        unsure = [
            f.ability
            for f in self.learned.findings
            if f.stream == one.name and f.ability in DOUBTS and f.confidence == "low"
        ]
        if unsure:
            return "low", f"not settled: {', '.join(unsure)}"
        weak = [m.column for m in result.found if m.evidence in ("plausible", "nested")]
        if len(one.rows) < FEW_ROWS and not (one.stream is ACCOUNTS and one.is_all):
            return "low" if len(one.rows) < 3 else "likely", f"only {len(one.rows)} rows to learn from"
        if weak or result.misfits:
            return "likely", f"read from names that are only plausible: {', '.join([*weak, *result.misfits])}"
        return "certain", f"{len(one.rows)} rows, names that fit"
