"""What tells the end of a list: a next link on pages that are not the last, and none on the last one.

What lives here: whether a list may be taken for whole, or is cut and does not say how to go on. What does not: finding the next link (`paging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit

from pipelines.connect.asking import sent
from pipelines.connect.findings import Finding, Line
from pipelines.connect.paging import unserved
from pipelines.connect.places import at
from pipelines.connect.probe import Probe, Seen, is_list, raw_rows, rows_of, said
from resources.appointedd import Look
from resources.contract import Contract
from resources.pages import count_of, may_be_cut, tells_of_pages

ABILITY = "end of lists"


@dataclass(frozen=True)
class _End:
    """What is known of one list's end. proven: a page that is not the last names the next one; cut: none does; unknown: there may be one page only."""

    verdict: Literal["proven", "cut", "unknown"]
    told: str


def ends(probe: Probe, lists: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Whether lists that name no next page are whole; nothing where all lists speak of pages. `contract` as it is settled so far.

    A list that is seen to hold more than its page is not. One without any pagination member is judged by the rule that a sync goes by.
    """
    total_place = contract.document.total
    if endless := [one.name for one in lists if _never_ends(probe, one, contract)]:
        return [_endless(endless)]
    longer = {one.name: told for one in lists if (told := _holds_more(probe, one, contract))}
    if longer:
        told = "; ".join(f"{name}: {why}" for name, why in longer.items())
        counted = f'document.next; where that count is of something else: document.total = "" and document.ignored_marks = ["{total_place}"]'
        is_counted = total_place and all(total_place in why for why in longer.values())
        found = f"{told}, and no page names the next"
        return [unserved(ABILITY, found, "all answers together", counted if is_counted else "")]
    bare = [one for one in lists if _is_bare(probe, one, total_place)]
    if not bare:
        return []
    refused: set[str] = set()
    found_ends = {one.name: _end_of(probe, one, contract, refused) for one in bare}
    told = "; ".join(f"{name}: {end.told}" for name, end in found_ends.items())
    if cut := [name for name, end in found_ends.items() if end.verdict == "cut"]:
        return [unserved(ABILITY, f"no link leads on from the first page of {', '.join(cut)}", told)]
    unknown = [one for one in bare if found_ends[one.name].verdict == "unknown"]
    if not unknown:
        why = "a page cut short named the next one; one that names none is the last"
        line = Line(("document", "lists_are_whole"), True, why)
        outcome = "believes a page that names no other to be the last"
        return [Finding("", ABILITY, "told by a next link alone", told, outcome, "certain", (line,))]
    names = ", ".join(f"{one.name} ({_count(probe, one)} records)" for one in unknown)
    found = f"not told by {names}"
    if contract.document.lists_are_whole:
        return [Finding("", ABILITY, found, told, "takes the contract's word for it", "likely")]
    size = int(probe.size.get(probe.size_name, "0"))
    # A list that is read in windows may be of any length.
    risky = [
        one.name
        for one in bare
        if "updated_since" in sent(one.stream, contract) or may_be_cut(_count(probe, one), size)
    ]
    if not risky:
        return [Finding("", ABILITY, found, told, "believes these lengths, not round ones", "low")]
    need = (
        f"end of lists: {names} came without any pagination member, and nothing shows that this is all; a sync believes no such list of a round length. "
        f"Look in Appointedd how many there are. If that is all: document.lists_are_whole = true. If not, say where the next link stands: document.next."
    )
    return [Finding("", ABILITY, found, told, f"would end red: {', '.join(risky)}", "none", need=need)]


def _never_ends(probe: Probe, seen: Seen, contract: Contract) -> bool:
    """Whether an empty page names one with a higher number, so that there is always another. Behind an empty page of a cursor more may come."""
    links = [probe.next_link(look) or "" for look in probe.answers_to(seen) if not raw_rows(look)]
    numbering = contract.document.shifting_parameters
    return any(name in parse_qs(urlsplit(link).query) for link in links for name in numbering)


def _endless(names: Sequence[str]) -> Finding:
    need = (
        f"end of lists: every page of {', '.join(names)} names a next one, an empty page behind the last one, too, so a sync would never come to an end. "
        f"This product takes a page that names no next one for the last; a programmer must teach it this form."
    )
    return Finding("", ABILITY, "never", "an empty page names a next one", "would not end", "none", need=need)


def _holds_more(probe: Probe, seen: Seen, contract: Contract) -> str:
    """Why a list without a next link is known to be longer than its one page; empty where nothing shows that."""
    answers, parameters, total_place = probe.answers_to(seen), contract.parameters, contract.document.total
    if any(probe.has_next(look) for look in answers):
        return ""
    # Parameters that hide no record of the list they are sent to.
    plain = {parameters.page_size, parameters.sort, parameters.include, parameters.account}
    whole = [look for look in answers if {name for name, _ in parse_qsl(urlsplit(look.url).query)} <= plain]
    rows = set(seen.rows).union(*(rows_of(look) for look in whole))
    longest = max((len(raw_rows(look)) for look in answers), default=0)
    if len(rows) > longest:
        return f"{len(rows)} different records were seen, at most {longest} on a page"
    page = probe.page(seen)
    total = count_of(at(page.document, total_place)) if total_place and is_list(page) else None
    if total is not None and total > len(raw_rows(page)):
        return f"{total_place} counts {total} records, and {len(raw_rows(page))} came"
    return ""


def _count(probe: Probe, seen: Seen) -> int:
    return len(raw_rows(probe.page(seen)))


def _is_bare(probe: Probe, seen: Seen, total_place: str) -> bool:
    """Whether rows came without a word of pages. One row alone is no list that anybody cuts."""
    return any(
        not tells_of_pages(look.document or {}, probe.next_place, total_place)
        for look in probe.answers_to(seen)
        if len(raw_rows(look)) > 1
    )


def _end_of(probe: Probe, seen: Seen, contract: Contract, refused: set[str]) -> _End:
    """Cut the list short on purpose and look for a next link; where it cannot be cut, ask for a second page in all styles."""
    page = probe.page(seen)
    count = len(raw_rows(page))
    if any(probe.has_next(look) for look in probe.answers_to(seen)):
        return _End("proven", "a page that is not the last names the next")
    if count > 1 and probe.size_name:
        asked = "2" if count > 2 else "1"
        short = probe.page(seen, {probe.size_name: asked})
        if len(raw_rows(short)) == int(asked):
            is_named = probe.has_next(short)
            told = f"{asked} of {count} asked for came, {'and the next page is named' if is_named else 'without a next link'}"
            return _End("proven" if is_named else "cut", told)
    if not is_list(page):
        return _End("unknown", said(page))
    pages = {
        name: str(count) if any(word in name.casefold() for word in ("offset", "skip")) else "2"
        for name in contract.document.shifting_parameters
    }
    together = probe.page(seen, pages)
    if _is_same(page, together):
        return _End("unknown", f"the same {count} rows came, whatever page was asked for")
    for name, value in pages.items():
        if probe.is_spent or name in refused:
            continue
        look = probe.page(seen, {name: value})
        if not is_list(look):
            refused.add(name)
        elif not _is_same(page, look):
            return _End("cut", f"{name}={value} brings another page, of {len(raw_rows(look))} records")
    return _End("unknown", f"{count} rows came, and no second page can be asked for")


def _is_same(one: Look, other: Look) -> bool:
    """Whether two answers are the same page, but for a row or two that came or went in between."""
    rows, others = rows_of(one).keys(), rows_of(other).keys()
    return is_list(other) and len(rows & others) * 2 > len(rows)
