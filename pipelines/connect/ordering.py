"""The order of lists by the instant of the last change: which attribute that is, and which parameter and value ask for it.

What lives here: asking for an order both ways and looking at what comes. What does not: filters (`changes`). An order that is not honoured loses nothing, but a
list in a known order makes the unfiltered sample that filters are judged by a better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product

from pipelines.connect.asking import sent
from pipelines.connect.described import tokens, unique
from pipelines.connect.findings import Finding, Line
from pipelines.connect.matching import instant_of
from pipelines.connect.paging import goes_on
from pipelines.connect.probe import Probe, Seen, is_list, is_steady, rows_of
from pipelines.records import MISSING, first
from resources.appointedd import Look
from resources.contract import Contract


def order(probe: Probe, seen: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Find the parameter and the value that order each list by change time; what comes is more of the unfiltered sample."""
    findings, parameter = [], ""
    for one in seen:
        finding, parameter = _order_of(probe, one, contract, parameter)
        findings.append(finding)
    if not parameter and any(f.confidence == "none" for f in findings):
        off = Line(("abilities", "sort"), False, "no order by change time was honoured")
        findings = [replace(f, lines=()) for f in findings]
        findings[0] = replace(findings[0], lines=(off,))
    elif parameter:
        on = (
            Line(("abilities", "sort"), True, "rows came in order, both ways"),
            Line(("parameters", "sort"), parameter, "rows came in order"),
        )
        findings[0] = replace(findings[0], lines=(*findings[0].lines, *on))
    return findings


def _order_of(probe: Probe, seen: Seen, contract: Contract, known: str) -> tuple[Finding, str]:
    changed, hints = seen.changed, seen.hints
    if not changed or len({first(r, [changed], {}) for r in seen.rows.values()}) < 2:
        told = "too few rows to see an order" if changed else "no change time in its records"
        return Finding(seen.name, "order", "not tried", told, "as it is", "low"), known
    parameters = [known] if known else unique(hints.sort, [contract.parameters.sort], contract.plausible.sort)
    words = [w.lstrip("-") for w in hints.sort_words if _is_change(w)]
    values = unique([seen.names.sort.lstrip("-"), changed, *words])
    if hints.sort_words:  # the file lists them: nothing else need be tried
        values = [v for v in values if v in {w.lstrip("-") for w in hints.sort_words}] or values
    for parameter, value in product(parameters, values):
        if probe.is_spent:
            break
        pages = {value: probe.page(seen, {parameter: value})}
        if is_list(pages[value]):
            pages["-" + value] = probe.page(seen, {parameter: "-" + value})
        orders = [_came_in_order(look, changed, is_descending=asked != value) for asked, look in pages.items()]
        if len(orders) == 2 and None in orders and False not in orders:
            told = "all rows of a page changed at the same time, so no order shows"
            return Finding(seen.name, "order", "not told", told, "as it is", "low"), known
        if orders != [True, True]:
            continue
        if lost := _left_out(probe, seen, pages) or _lost_between(probe, seen, parameter, pages):
            why = f"{parameter}={value} {lost}"
            is_due = value == seen.names.sort.lstrip("-")  # another one, a person's own, may lose nothing
            return _no_order(seen, "none that is whole", why, why, is_due=is_due), known
        for look in pages.values():
            probe.add_sample(seen, look)
        line = Line(("streams", seen.name, "sort"), value, "rows came in this order")
        found, told = f"{parameter}={value}", "rows came ascending, and descending with -"
        outcome = "asks for the oldest change first"
        return Finding(seen.name, "order", found, told, outcome, "certain", (line,)), parameter
    told = f"tried {', '.join(parameters)} with {', '.join(values)}: refused, or the rows were not in that order"
    return _no_order(seen, "none by change time", told, "no order by change time was honoured"), known


def _no_order(seen: Seen, found: str, told: str, why: str, *, is_due: bool = False) -> Finding:
    off = Line(("streams", seen.name, "sort"), "", why, is_due)
    return Finding(seen.name, "order", found, told, "asks for no order", "none", (off,))


def _left_out(probe: Probe, seen: Seen, pages: Mapping[str, Look]) -> str:
    """How a list in order is seen to lack rows; empty where it is not. `pages`: its first page each way, by the value that asks for that order."""
    came = set().union(*(rows_of(look) for look in pages.values()))
    whole = [look for look in pages.values() if not goes_on(probe, look)]
    short = next((look for look in whole if seen.rows.keys() - rows_of(look).keys()), None)
    if short is not None:
        # What left the list meanwhile is no loss, and what came to it is on none of the earlier pages.
        still = rows_of(probe.again(probe.page(seen))).keys()
        if lost := (seen.rows.keys() & still) - rows_of(short).keys():
            return f"is whole in one page, and leaves out {len(lost)} rows that come without it"
    changed = seen.changed
    bare = {key for key, row in seen.rows.items() if first(row, [changed], {}) in (MISSING, None)}
    if bare and not bare & came:
        return f"brings none of the {len(bare)} rows without a change time, neither first nor last"
    return ""


def _lost_between(probe: Probe, seen: Seen, parameter: str, pages: Mapping[str, Look]) -> str:
    """How rows of one instant are seen to be lost where a page ends among them; empty where they are not, or where no rows share an instant.

    A cursor that is nothing but an instant goes on behind all rows of that instant, whichever way the list is ordered. A sync asks for the oldest first, so
    the descending page is only tried where the ascending one holds no such rows.
    """
    changed = seen.changed
    for value, look in pages.items():
        rows = rows_of(look)
        size = tied_size([first(row, [changed], {}) for row in rows.values()])
        if size is None or not probe.size_name:
            continue
        page = probe.page(seen, {parameter: value, probe.size_name: str(size)})
        following = probe.follow(page)
        if following is None or not is_list(following) or len(rows_of(page)) != size:
            continue
        # Behind the page stands at least one more row of the instant.
        due = list(rows)[: size + max(1, len(rows_of(following)))]
        lost = set(due) - rows_of(page).keys() - rows_of(following).keys()
        if not lost:
            return ""
        # Rows that changed meanwhile stand elsewhere now.
        if list(rows_of(probe.again(look)))[: len(due)] == due:
            return f"loses {len(lost)} rows of one instant between two of its pages"
    return ""


def tied_size(values: Sequence[object]) -> int | None:
    """How long a page must be to end among rows of one value, behind the first of the largest such group; None where there is no group."""
    longest, size, before = 1, None, 0
    for _, group in groupby(values):
        length = len(list(group))
        if length > longest:
            longest, size = length, before + 1
        before += length
    return size


def wandering(probe: Probe, lists: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Lists of more than one page whose rows come in another order each time: no walk over their pages can be whole, unless an order is found that they keep.

    `contract` as it is settled so far: what is asked for in an order anyway is left out.
    """
    found, parameter = [], contract.parameters.sort
    for one in lists:
        page = probe.page(one)
        is_ordered = "sort" in sent(one.stream, contract)
        if is_ordered or not is_list(page) or not probe.has_next(page) or _is_steady(probe, page):
            continue
        ability, told = "order of pages", "asked for twice, other rows came on the first page"
        values = unique([one.names.sort], ["id"]) if parameter else ()
        kept = next((value for value in values if _keeps(probe, one, parameter, value)), "")
        if kept:
            why = "rows came in the same order twice, as they do not without it"
            lines = (
                Line(("abilities", "sort"), True, why, is_due=True),
                Line(("parameters", "sort"), parameter, why, is_due=True),
                Line(("streams", one.name, "sort"), kept, why, is_due=True),
            )
            found.append(Finding(one.name, ability, f"kept by {kept}", told, "asks for that order", "certain", lines))
            continue
        need = (
            f"{one.name}: its rows come in another order each time, so that no walk over its pages can be proven to be whole. Name an order that it keeps: "
            f"streams.{one.name}.sort, with parameters.sort."
        )
        found.append(Finding(one.name, ability, "another each time", told, "would end red", "none", need=need))
    return found


def _keeps(probe: Probe, seen: Seen, parameter: str, value: str) -> bool:
    look = probe.page(seen, {parameter: value})
    return is_list(look) and _is_steady(probe, look)


def _is_steady(probe: Probe, look: Look) -> bool:
    """Whether the same rows come when a page is asked for again."""
    return is_steady(rows_of(look).keys(), rows_of(probe.again(look)).keys())


def _came_in_order(look: Look, changed: str, *, is_descending: bool) -> bool | None:
    """Whether rows came in order; None where they all changed at the same time, which looks ordered any way."""
    values = [first(row, [changed], {}) for row in rows_of(look).values()]
    instants = [instant for v in values if (instant := instant_of(v)) is not None]
    if not instants or len(instants) < len(values):
        return False
    return instants == sorted(instants, reverse=is_descending) if len(set(instants)) > 1 else None


def _is_change(word: str) -> bool:
    return bool({"updated", "modified", "changed", "update", "change"} & set(tokens(word)))
