"""How lists are cut into pages here: the page size and its maximum, the place of the next link, whether it numbers pages, the place of a total.

What lives here: asking for these and judging the answers. What does not: what tells the end of a list (`ends`), filters and order (`changes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from urllib.parse import urljoin

from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Line
from pipelines.connect.places import address, at, counts, next_marks, next_places, shifting
from pipelines.connect.probe import Probe, Seen, is_list, raw_rows, rows_of, said
from pipelines.streams import ACCOUNTS
from resources.appointedd import Look
from resources.contract import Contract
from resources.marks import Mark
from resources.pages import count_of

# No server is known to like more, and a page must fit in memory.
LARGEST_TRIED = 500
NONSENSE = "appointedd_warehouse_asks"
NEXT_LINK = "next link"
WITHOUT_LINK = "seen on a page without a link to the next"
CUT_OFF = "cannot read beyond the first page"
# What the marks of a further page say.
SAID = {
    "yes": "says that there is more",
    "next": "holds a mark of the next page",
    "pages": "counts further pages",
    "last": "is another page than the first",
    "records": "counts further records",
}


def refuses_unknown(probe: Probe, seen: Seen) -> tuple[bool, Finding]:
    """Whether a parameter that nobody can know is refused: if not, no parameter may be believed because it was let through."""
    look, ability = probe.get(seen.path, {NONSENSE: "1"}), "unknown parameters"
    if not is_list(look):
        return True, Finding("", ability, f"refused with {said(look)}", f"{NONSENSE}=1", "none is sent", "certain")
    told = f"{NONSENSE}=1 was answered like no parameter at all"
    outcome = "a parameter counts only where the rows that came show that it was honoured"
    return False, Finding("", ability, "ignored without a word", told, outcome, "certain")


def page_size(probe: Probe, seen: Sequence[Seen], contract: Contract) -> Finding:
    """Find the parameter that sets the page size, and the largest size; the probe uses it from here on."""
    subject = max(seen, key=lambda s: len(raw_rows(s.first)) if s.first else 0)
    there = len(raw_rows(subject.first)) if subject.first else 0
    hints = [one.hints for one in (subject, *seen)]
    described = [name for of_one in hints for name in of_one.page_size]
    names = unique(described, [contract.parameters.page_size], contract.plausible.page_size)
    if there < 2:
        return Finding("", "page size", "not known", f"no list holds two rows ({subject.name})", "as it is", "low")
    asked = "2" if there > 2 else "1"
    found = next((n for n in names if not probe.is_spent and _length(probe, subject, n, asked) == int(asked)), None)
    if found is None:
        told = f"tried {_few(names)} with the value {asked}; {there} rows came all the same, or a refusal"
        off = Line(("abilities", "page_size"), False, "no parameter for it was honoured")
        return Finding("", "page size", "none works", told, "sends no page size", "certain", (off,))
    maxima = [one.page_size_maximum for one in hints if one.page_size_maximum]
    sizes = {int(size) for size in (contract.parameters.page_size_value, *contract.plausible.page_size_values)}
    sizes |= {min(size, LARGEST_TRIED) for size in maxima[:1]}
    value, told = _largest(probe, subject, found, sorted(sizes), there)
    # Of the accounts no other question needs a size, and a sync drops what their list alone refuses.
    sized = [one for one in seen if one.first is not None and one.stream is not ACCOUNTS]
    while any(not is_list(probe.get(one.path, {found: value})) for one in sized):
        sizes = {size for size in sizes if size < min(int(value), max(sizes))}
        if not sizes:
            told = f"no size that was tried is let through by every list, {value} neither"
            off = Line(("abilities", "page_size"), False, told)
            return Finding("", "page size", "none works", told, "sends no page size", "certain", (off,))
        value, told = _largest(probe, subject, found, sorted(sizes), there)
    probe.size = {found: value}
    lines = (
        Line(("abilities", "page_size"), True, "a page of the size asked for came"),
        Line(("parameters", "page_size"), found, f"{asked} asked for, {asked} came"),
        Line(("parameters", "page_size_value"), value, told),
    )
    told = f"{asked} asked for and {asked} came; {told}"
    return Finding("", "page size", f"{found}={value}", told, "asks for pages of that size", "certain", lines)


def _length(probe: Probe, seen: Seen, name: str, value: str) -> int:
    return len(raw_rows(probe.get(seen.path, {name: value})))


def _largest(probe: Probe, seen: Seen, name: str, sizes: Sequence[int], default: int) -> tuple[str, str]:
    """The largest page that is served, and how that is known. `sizes`: those worth trying, ascending."""
    for size in reversed(sizes):
        look = probe.get(seen.path, {name: str(size)})
        if not is_list(look):
            continue
        came = len(raw_rows(look))
        if came < size and goes_on(probe, look):
            return str(came), f"of {size} asked for {came} came, so that is its maximum"
        return str(size), f"{size} is let through" + (f" ({came} came)" if came != size else "")
    return str(default), f"{', '.join(map(str, sizes))} are refused; {default} is its own default"


def goes_on(probe: Probe, look: Look) -> bool:
    """Whether an answer names a next page, in any way that can be told."""
    document = look.document or {}
    return bool(next_places(document) or next_marks(document) or probe.signs_of_more(look) or _has_link_header(look))


def _has_link_header(look: Look) -> bool:
    return 'rel="next"' in look.headers.get("link", "")


# The next link


def next_link(probe: Probe, seen: Sequence[Seen], contract: Contract) -> Finding:
    """Where the next link stands, proven by following one; whether it numbers pages."""
    short = [(one.name, look) for one in seen for look in _short_pages(probe, one)]
    return _followed(probe, seen, short, contract) or _unfollowed(probe, seen, [look for _, look in short], contract)


def _followed(
    probe: Probe, seen: Sequence[Seen], short: Sequence[tuple[str, Look]], contract: Contract
) -> Finding | None:
    """The next link of one of these pages, or what is wrong with it; None where no link leads anywhere."""
    ended: Finding | None = None
    for name, look in short:
        for place in unique([contract.document.next], next_places(look.document or {})):
            if address(at(look.document, place)) is None:
                continue
            probe.next_place = place
            if origin := probe.leads_away(look):
                return _led_away(name, place, origin)
            following = probe.follow(look)
            if following is None:
                continue  # it leads to the page itself
            if not is_list(following):
                told = f"{place} was answered with HTTP {following.status}"
                return unserved(NEXT_LINK, f"{place}, which leads nowhere", told, f'document.next = "{place}"')
            if not raw_rows(following):
                told = "followed once, to an empty page behind the last one"
                ended = ended or _next_found(probe, place, look, following, contract, told)
            elif not rows_of(following).keys() - rows_of(look).keys():
                return unserved(NEXT_LINK, f"{place} leads to the same rows", place, f'document.next = "{place}"')
            else:
                odd = next((need for one in seen if (need := _odd_end(probe, one, place))), None)
                return odd or _next_found(probe, place, look, following, contract, "followed once; other rows came")
    return ended


def _unfollowed(probe: Probe, seen: Sequence[Seen], short: Sequence[Look], contract: Contract) -> Finding:
    """What pages say of further ones without a link that leads there. `short`: pages that are surely not the last."""
    if marks := [mark for look in short for mark in next_marks(look.document or {})]:
        return unserved(NEXT_LINK, f"{marks[0]} holds a mark, not a link", "seen on a page that is not the last")
    for one in seen:
        for look in probe.answers_to(one):
            if signs := probe.signs_of_more(look):
                return _marked(one.name, signs[0])
            if _has_link_header(look):
                return unserved(NEXT_LINK, f"a Link header, on {one.name}", WITHOUT_LINK)
    if short:
        return unserved(NEXT_LINK, "none", "a page that is not the last has no link to the next")
    told, outcome = "no page names or shows a further one", f"looks at {contract.document.next}"
    return Finding("", NEXT_LINK, "none was needed", told, outcome, "low")


def _marked(stream: str, mark: Mark) -> Finding:
    told = f"{stream}: {mark.place} {SAID[mark.kind]}"
    need = (
        f"next link: {told}, and no link leads there. This product follows links only; a programmer must teach it this form. "
        f'Where it means something else: document.ignored_marks = ["{mark.place}"].'
    )
    return Finding("", NEXT_LINK, told, WITHOUT_LINK, CUT_OFF, "none", need=need)


def _led_away(stream: str, place: str, origin: str) -> Finding:
    need = (
        f"{stream}: its next link leads to another host ({origin}), and no token is sent there. "
        f"If that is the same server, use that host in APPOINTEDD_BASE_URL."
    )
    return Finding("", NEXT_LINK, f"at {origin}", f"{place} of a page that is not the last", CUT_OFF, "none", need=need)


def _odd_end(probe: Probe, seen: Seen, place: str) -> Finding | None:
    """A need where some page, such as the last, has neither a link nor nothing at the place of the next link: a sync would follow that, or end red."""
    for look in probe.answers_to(seen):
        value = at(look.document, place)
        held = value.get("href") if isinstance(value, dict) else value
        link = address(value)
        if held is None or held == "" or (link is not None and urljoin(look.url, link) != look.url):
            continue
        shown = "a link to the page itself" if link else json.dumps(held)
        need = (
            f"{seen.name}: a page names no next one by {shown} at {place}, where a sync reads a link; it would end red. This product takes null, an empty "
            f"text or nothing for the end of a list; a programmer must teach it this form."
        )
        found = f"{place}, {shown} at the end"
        return Finding("", NEXT_LINK, found, "a page that names no other", "would fail", "none", need=need)
    return None


def _next_found(probe: Probe, place: str, look: Look, following: Look, contract: Contract, evidence: str) -> Finding:
    known = contract.document.shifting_parameters
    further = address(at(following.document, place))
    further_url = urljoin(following.url, further) if further else ""
    numbering = shifting(following.url, further_url, probe.size_name, len(raw_rows(look)))
    value = at(look.document, place)
    form = "an object" if isinstance(value, dict) else "absolute" if str(value).startswith("http") else "relative"
    kind, outcome = "a cursor", "follows it to its end"
    if numbering:
        kind, outcome = "numbered pages", f"{outcome}; a long walk must prove itself whole"
    lines = [Line(("document", "next"), place, "followed to further rows", is_due=True)]
    if new := [n for n in numbering if n not in known]:
        lines.append(Line(("document", "shifting_parameters"), [*known, *new], "numbers pages in the next link"))
    return Finding("", NEXT_LINK, f"{place} ({form}, {kind})", evidence, outcome, "certain", tuple(lines))


def _short_pages(probe: Probe, seen: Seen) -> Iterable[Look]:
    """Answers that are surely not the last page: fewer rows came than are known, or the page was cut short on purpose."""
    answers = probe.answers_to(seen)
    known = max((len(raw_rows(look)) for look in answers), default=0)
    size = f"{_quoted(probe.size_name)}="
    for look in answers:
        is_shorter = bool(probe.size_name) and 0 < len(raw_rows(look)) < known and size in look.url
        if is_shorter or next_places(look.document or {}):
            yield look


def _quoted(name: str) -> str:
    return name.replace("[", "%5B").replace("]", "%5D")


# Totals


def total(probe: Probe, seen: Sequence[Seen], contract: Contract) -> Finding:
    """Where a count of all that matches stands: a number that is the same whatever the page size, and no smaller than the rows that were seen."""
    places: dict[str, bool] = {}
    for one in seen:
        if len(one.rows) < 2:
            continue
        same = [look for look in probe.answers_to(one) if _is_unfiltered(look, probe)]
        lengths = {len(raw_rows(a)) for a in same}
        for place in set().union(*(counts(a.document or {}).keys() for a in same)) if len(lengths) > 1 else ():
            values = {count_of(at(a.document, place)) for a in same}
            is_total = len(values) == 1 and all(v is not None and v >= len(one.rows) for v in values)
            if one.is_all:
                is_total = is_total and values == {len(one.rows)}
            places[place] = places.get(place, True) and is_total
    words = ("total", "count", "matches", "found")
    good = [place for place, is_good in places.items() if is_good and any(w in place.casefold() for w in words)]
    good.sort(key=lambda p: (p != contract.document.total, p))
    if not good:
        told = "no number beside the rows stays the same on pages of any size"
        return Finding("", "total", "none", told, "does without", "likely")
    line = Line(("document", "total"), good[0], "a count of all that matches")
    told = "the same on pages of different size, and no smaller than the rows seen"
    return Finding("", "total", good[0], told, "checks each walk against it", "likely", (line,))


def filtered_total(probe: Probe, seen: Sequence[Seen], place: str) -> list[Finding]:
    """A total that counts the whole list whatever is asked for, and so tells nothing of a window; nothing where none does."""
    for one in seen:
        page = probe.page(one)
        whole = count_of(at(page.document, place)) if place else None
        if whole is None or not (probe.has_next(page) or whole == len(raw_rows(page))):
            continue
        for look in probe.answers_to(one):
            is_only_page = look.url not in probe.followed and not probe.has_next(look)
            if is_only_page and count_of(at(look.document, place)) == whole > len(raw_rows(look)):
                told = f"a list of {one.name} that is whole with {len(raw_rows(look))} rows counts {whole}, as the unfiltered one does"
                line = Line(("document", "total"), "", "it counts the whole list, whatever is asked for")
                return [Finding("", "total", f"{place}, of whole lists only", told, "does without", "certain", (line,))]
    return []


def _is_unfiltered(look: Look, probe: Probe) -> bool:
    query = look.url.partition("?")[2]
    return all(part.startswith(tuple(_quoted(n) + "=" for n in probe.size)) for part in query.split("&") if part)


def unserved(ability: str, found: str, evidence: str, key: str = "") -> Finding:
    """A form of pages that a sync cannot follow; `key` is the line that may mend it, empty where none does."""
    by_hand = "This product follows links only; a programmer must teach it this form"
    cure = f"Say where it stands: {key}" if key else by_hand
    return Finding("", ability, found, evidence, CUT_OFF, "none", need=f"{ability}: {found}. {cure}.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
