"""How lists are cut into pages here: the page size and its maximum, the place of the next link, whether it numbers pages, the place of a total.

What lives here: asking for these and judging the answers. What does not: what tells the end of a list (`ends`), filters and order (`changes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from urllib.parse import urljoin

from pipelines.connect.described import Hints, unique
from pipelines.connect.findings import Finding, Line
from pipelines.connect.places import address, at, counts, next_marks, next_places, shifting
from pipelines.connect.probe import Probe, Seen, is_list, raw_rows, rows_of, said
from resources.appointedd import Look
from resources.contract import Contract
from resources.marks import Mark
from resources.pages import count_of

# No server is known to like more, and a page must fit in memory.
LARGEST_TRIED = 500
NONSENSE = "appointedd_warehouse_asks"


def refuses_unknown(probe: Probe, seen: Seen) -> tuple[bool, Finding]:
    """Whether a parameter that nobody can know is refused: if not, no parameter may be believed because it was let through."""
    look = probe.get(seen.path, {NONSENSE: "1"})
    if is_list(look):
        return False, Finding(
            "",
            "unknown parameters",
            "ignored without a word",
            f"{NONSENSE}=1 was answered like no parameter at all",
            "a parameter counts only where the rows that came show that it was honoured",
            "certain",
        )
    return True, Finding(
        "", "unknown parameters", f"refused with {said(look)}", f"{NONSENSE}=1", "none is sent", "certain"
    )


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
        return Finding(
            "",
            "page size",
            "none works",
            f"tried {_few(names)} with the value {asked}; {there} rows came all the same, or a refusal",
            "sends no page size",
            "certain",
            (Line(("abilities", "page_size"), False, "no parameter for it was honoured"),),
        )
    value, told = _largest(probe, subject, found, hints, contract, there)
    probe.size = {found: value}
    return Finding(
        "",
        "page size",
        f"{found}={value}",
        f"{asked} asked for and {asked} came; {told}",
        "asks for pages of that size",
        "certain",
        (
            Line(("abilities", "page_size"), True, "a page of the size asked for came"),
            Line(("parameters", "page_size"), found, f"{asked} asked for, {asked} came"),
            Line(("parameters", "page_size_value"), value, told),
        ),
    )


def _length(probe: Probe, seen: Seen, name: str, value: str) -> int:
    look = probe.get(seen.path, {name: value})
    return len(raw_rows(look)) if is_list(look) else -1


def _largest(
    probe: Probe, seen: Seen, name: str, hints: Sequence[Hints], contract: Contract, default: int
) -> tuple[str, str]:
    """The largest page that is served, and how that is known."""
    own = [str(min(h.page_size_maximum, LARGEST_TRIED)) for h in hints if h.page_size_maximum]
    sizes = sorted(
        {int(v) for v in (*own[:1], contract.parameters.page_size_value, *contract.plausible.page_size_values)}
    )
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


def next_link(probe: Probe, seen: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Where the next link stands, proven by following one; whether it numbers pages."""
    size_name = next(iter(probe.size), "")
    short_of = {one.name: list(_short_pages(probe, one, size_name)) for one in seen}
    short = [look for looks in short_of.values() for look in looks]
    ended: Finding | None = None
    for name, look in ((name, look) for name, looks in short_of.items() for look in looks):
        for place in unique([contract.document.next], next_places(look.document or {})):
            link = address(at(look.document, place))
            if link is None:
                continue
            probe.next_place = place
            if origin := probe.leads_away(look):
                return [_led_away(name, place, origin)]
            following = probe.follow(look)
            if following is None:
                continue  # it leads to the page itself
            if not is_list(following):
                told = f"{place} was answered with HTTP {following.status}"
                return [unserved("next link", f"{place}, which leads nowhere", told, f'document.next = "{place}"')]
            if not raw_rows(following):
                told = "followed once, to an empty page behind the last one"
                ended = ended or _next_found(place, look, following, size_name, contract, told)
                continue
            if not rows_of(following).keys() - rows_of(look).keys():
                return [unserved("next link", f"{place} leads to the same rows", place, f'document.next = "{place}"')]
            odd = next((need for one in seen if (need := _odd_end(probe, one, place))), None)
            told = "followed once; other rows came"
            return [odd or _next_found(place, look, following, size_name, contract, told)]
    if ended:
        return [ended]
    marks = [m for look in short for m in next_marks(look.document or {})]
    if marks:
        return [
            unserved("next link", f"{marks[0]} holds a mark, not a link", "seen on a page that is not the last", "none")
        ]
    for one in seen:
        for look in probe.answers_to(one):
            if signs := probe.signs_of_more(look):
                return [_marked(one.name, signs[0])]
            if _has_link_header(look):
                return [
                    unserved(
                        "next link",
                        f"a Link header, on {one.name}",
                        "seen on a page without a link to the next",
                        "none",
                    )
                ]
    if short:
        return [unserved("next link", "none", "a page that is not the last has no link to the next", "none")]
    return [
        Finding(
            "",
            "next link",
            "none was needed",
            "no page names or shows a further one",
            f"looks at {contract.document.next}",
            "low",
        )
    ]


def _marked(stream: str, mark: Mark) -> Finding:
    said = {
        "yes": "says that there is more",
        "next": "holds a mark of the next page",
        "pages": "counts further pages",
        "last": "is another page than the first",
        "records": "counts further records",
    }
    told = f"{stream}: {mark.place} {said[mark.kind]}"
    need = (
        f"next link: {told}, and no link leads there. This product follows links only; a programmer must teach it this form. "
        f'Where it means something else: document.ignored_marks = ["{mark.place}"].'
    )
    evidence = "seen on a page without a link to the next"
    return Finding("", "next link", told, evidence, "cannot read beyond the first page", "none", need=need)


def _led_away(stream: str, place: str, origin: str) -> Finding:
    need = (
        f"{stream}: its next link leads to another host ({origin}), and no token is sent there. "
        f"If that is the same server, use that host in APPOINTEDD_BASE_URL."
    )
    told = f"{place} of a page that is not the last"
    return Finding("", "next link", f"at {origin}", told, "cannot read beyond the first page", "none", need=need)


def _odd_end(probe: Probe, seen: Seen, place: str) -> Finding | None:
    """What a page says at the place of the next link that is neither a link nor nothing, as a last page may: a sync follows it, or cannot read it."""
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
        return Finding(
            "",
            "next link",
            f"{place}, {shown} at the end",
            "a page that names no other",
            "would fail",
            "none",
            need=need,
        )
    return None


def _next_found(place: str, look: Look, following: Look, size_name: str, contract: Contract, evidence: str) -> Finding:
    known = contract.document.shifting_parameters
    further = address(at(following.document, place))
    further_url = urljoin(following.url, further) if further else ""
    numbering = shifting(following.url, further_url, size_name, len(raw_rows(look)))
    kind = "numbered pages" if numbering else "a cursor"
    value = at(look.document, place)
    form = "an object" if isinstance(value, dict) else "absolute" if str(value).startswith("http") else "relative"
    lines = [Line(("document", "next"), place, "followed to further rows")]
    if new := [n for n in numbering if n not in known]:
        lines.append(Line(("document", "shifting_parameters"), [*known, *new], "numbers pages in the next link"))
    return Finding(
        "",
        "next link",
        f"{place} ({form}, {kind})",
        evidence,
        "follows it to its end" + ("; a long walk must prove itself whole" if kind != "a cursor" else ""),
        "certain",
        tuple(lines),
    )


def _short_pages(probe: Probe, seen: Seen, size_name: str) -> Iterable[Look]:
    """Answers that are surely not the last page: fewer rows came than are known, or the page was cut short on purpose."""
    answers = probe.answers_to(seen)
    known = max((len(raw_rows(look)) for look in answers), default=0)
    for look in answers:
        is_shorter = bool(size_name) and 0 < len(raw_rows(look)) < known and f"{_quoted(size_name)}=" in look.url
        if is_shorter or next_places(look.document or {}):
            yield look


def _quoted(name: str) -> str:
    return name.replace("[", "%5B").replace("]", "%5D")


# Totals


def total(probe: Probe, seen: Sequence[Seen], contract: Contract) -> Finding:
    """Where a count of everything that matches stands: it must be the same whatever the page size, and no smaller than the rows that were seen."""
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
        return Finding(
            "",
            "total",
            "none",
            "no number beside the rows stays the same on pages of any size",
            "does without",
            "likely",
        )
    return Finding(
        "",
        "total",
        good[0],
        "the same on pages of different size, and no smaller than the rows seen",
        "checks each walk against it",
        "likely",
        (Line(("document", "total"), good[0], "a count of all that matches"),),
    )


def filtered_total(probe: Probe, seen: Sequence[Seen], place: str) -> Finding | None:
    """A total that counts the whole list whatever is asked for, and so tells nothing of a window; None where none does."""
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
                return Finding("", "total", f"{place}, of whole lists only", told, "does without", "certain", (line,))
    return None


def _is_unfiltered(look: Look, probe: Probe) -> bool:
    query = look.url.partition("?")[2]
    return all(part.startswith(tuple(_quoted(n) + "=" for n in probe.size)) for part in query.split("&") if part)


def unserved(ability: str, found: str, evidence: str, key: str) -> Finding:
    """A form of pages that a sync cannot follow; `key` is the line that may mend it, or "none"."""
    cure = (
        f"Say where it stands: {key}"
        if key != "none"
        else "This product follows links only; a programmer must teach it this form"
    )
    return Finding(
        "", ability, found, evidence, "cannot read beyond the first page", "none", need=f"{ability}: {found}. {cure}."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
