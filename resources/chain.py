"""A chain of pages, judged while it is walked: whether its links lead on through the list that was asked for, and whether its last page is the last.

What lives here: the signs that a list has rows which no page showed, and the sentence for each. What does not: asking for the pages (`appointedd`), what
one answer says (`pages`, `marks`), totals (`pipelines.completeness`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from resources.abilities import Abilities
from resources.errors import AbilityRefusedError, BrokenAnswerError, UnprovenEndError
from resources.marks import Mark
from resources.pages import Page, may_be_cut

# So many pages in a row may be empty and others still follow: some servers take rows out of a page after they have counted them.
MOST_EMPTY_PAGES = 100


class Chain:
    """The pages of one walk, in order: `add` each, `follow` its link, and `end` behind the last.

    The list is asked with `optional`, parameters that it can be read without, and `own`, a query of the contract; `is_filtered`: they narrow it down.
    """

    def __init__(
        self,
        abilities: Abilities,
        stream: str,
        url: str,
        optional: Mapping[str, str],
        own: Mapping[str, str],
        *,
        is_filtered: bool,
    ) -> None:
        self._abilities, self._contract = abilities, abilities.contract
        self._stream, self._optional, self._own, self._is_filtered = stream, optional, own, is_filtered
        self._seen = {url}
        self._first: Page | None = None
        self._counts = set[int]()
        self._empty_count = 0
        # The parameters of the last link, and whether each link so far counts more rows on than its page holds.
        self._place: Mapping[str, Sequence[str]] = {}
        self._is_stepping = True

    def add(self, page: Page) -> None:
        """The next page; raises `UnprovenEndError` where it names no page after it, but says elsewhere that there is one."""
        names = self._contract.document
        mark = self._contradiction(page)
        self._first = self._first or page
        if mark is None:
            return
        says = {"records": "counts more records", "pages": "counts several pages", "last": "leads to another page"}
        # Without a total of the contract's, a count of records is held against whole lists alone.
        is_of_filtered = mark.kind == "records" and self._is_filtered
        other = 'document.total = ""' if is_of_filtered else f'document.ignored_marks = ["{mark.place}"]'
        raise UnprovenEndError(
            f"{self._stream}: the page names no next one at {names.next}, but {mark.place} {says.get(mark.kind, 'says that there is one')}, so the list is "
            f"not whole. Say in the contract where the next link stands (document.next), or run appointedd-warehouse connect; if {mark.place} means something "
            f"else, {other}."
        )

    def _contradiction(self, page: Page) -> Mark | None:
        """The mark that says that a page without a next link is not the last one; None where none does.

        Behind the first page only a plain yes counts: the links themselves led to the end, numbers of pages may begin with 0, and some APIs give a cursor to
        come back with. A count of records may ignore filters, unless the contract says that this API counts what matches.
        """
        counts_all = self._is_filtered and not self._contract.document.total
        for mark in page.marks:
            if mark.kind != "yes" and self._first is not None:
                continue
            if mark.kind == "records" and (page.total is not None or counts_all):
                continue  # the contract's own total is judged when the walk has ended
            return mark
        return None

    def follow(self, page: Page, next_url: str) -> None:
        """Before the link of a page is followed.

        Raises `BrokenAnswerError` (it leads in a circle, or has lost a query of the contract), `UnprovenEndError` (too many empty pages),
        `AbilityRefusedError` (it has lost a parameter that the list can be read without).
        """
        if next_url in self._seen:
            raise BrokenAnswerError(
                f"{self._stream}: the next link of a page leads to a page that was already read; the walk would never end."
            )
        self._empty_count = 0 if page.count else self._empty_count + 1
        if self._empty_count > MOST_EMPTY_PAGES:
            raise UnprovenEndError(
                f"{self._stream}: {self._empty_count} pages in a row hold no record, and each names a next one, so the walk would never end. This product "
                f"takes a page that names no next one for the last: is there another place where the next link stands (document.next in the contract)?"
            )
        if (lost := self._lost(page)) is not None:
            self._refuse(lost)
        numbering = self._contract.document.shifting_parameters
        self._is_stepping = self._is_stepping and steps_over(page, self._place, numbering)
        self._place = page.next_query
        self._counts.add(page.count)
        self._seen.add(next_url)

    def end(self) -> None:
        """After the last page: raises `UnprovenEndError` where the chain as a whole does not show that it was the last, or that no rows were left out."""
        assert self._first is not None  # noqa: S101  a walk has a page; narrows the type
        count = self._first.count
        if self._is_stepping and len(self._counts) == 1:
            raise UnprovenEndError(
                f"{self._stream}: each page but the last holds {count} records, and its next link counts more on, so those between were never shown. Ask for "
                f"no more than {count} in the contract (parameters.page_size_value)."
            )
        size = int(self._optional.get(self._contract.parameters.page_size, "0") or 0)
        is_told = self._first.has_pagination or self._contract.document.lists_are_whole
        if not is_told and may_be_cut(count, size):
            raise UnprovenEndError(
                f"{self._stream}: the only page holds exactly {count} records and no pagination member, so nothing shows that it is "
                f"all. Say in the contract where the next link stands (document.next), or that the server never paginates (document.lists_are_whole)."
            )

    def _lost(self, page: Page) -> str | None:
        """The parameter that the next link should carry and does not, so that another list stands behind it than the one that was asked for."""
        parameters = self._contract.parameters
        # A page's number means something in one order and at one length only; a cursor may stand for both.
        cut = (parameters.sort, parameters.page_size) if page.is_shifting else ()
        names = (parameters.updated_since, parameters.updated_until, parameters.account, *cut)
        needed = [*self._own, *(name for name in names if name in self._optional)]
        asked = {**self._optional, **self._own}
        size = parameters.page_size
        lost = forgotten(page.next_query, asked, needed, size, is_shifting=page.is_shifting)
        if lost is None and size in needed and grows(page, asked[size], size):
            return size
        return lost

    def _refuse(self, lost: str) -> None:
        """Raise what a lost parameter calls for: the list can be read without an optional one, but not without a query of the contract."""
        stream = self._stream
        what = f"{stream}: a next link has lost the parameter {lost!r} that the list was asked with, so what follows is another list"
        if lost in self._own:
            raise BrokenAnswerError(
                f"{what}. This is the API's fault; until it is mended, ask for larger pages (parameters.page_size_value), or take it out of "
                f"streams.{stream}.queries, if the list shows all without it."
            )
        ability = self._abilities.ability_of(lost)
        assert ability is not None  # noqa: S101  bounds and account are abilities; narrows the type
        raise AbilityRefusedError(
            f"{what}, and the sync goes on without it (ability {ability!r}; correct its name in the contract, or switch it off there).",
            stream=stream,
            ability=ability,
        )


def forgotten(
    link: Mapping[str, Sequence[str]],
    asked: Mapping[str, str],
    needed: Collection[str],
    page_size: str,
    *,
    is_shifting: bool,
) -> str | None:
    """The first of the `needed` parameters that a next link has lost; None where it has them all, or may carry them unseen. `link`: its parameters.

    A cursor may stand for all that was `asked`; its link then repeats nothing but perhaps the page size. A link that numbers pages carries nothing unseen,
    and one that repeats some of what was asked should repeat all of it. A value that stands under another name is not lost.
    """
    is_spelt_out = is_shifting or any(name in link for name in asked if name != page_size)
    values = {value for own in link.values() for value in own}
    lost = (name for name in needed if name not in link and asked[name] not in values)
    return next(lost, None) if is_spelt_out else None


def grows(page: Page, asked: str, page_size: str) -> bool:
    """Whether a next link asks for pages longer than was `asked`, and than this page is: the page of its number begins behind rows that no page showed."""
    linked = page.next_query.get(page_size, ())
    return asked not in linked and any(text.isdecimal() and Decimal(text) > page.count for text in linked)


def steps_over(page: Page, place: Mapping[str, Sequence[str]], shifting: Collection[str]) -> bool:
    """Whether a next link counts more rows on from `place`, where its page stands, than that page holds.

    That is a server which shortens its pages and goes on by the size that was asked for. One that takes rows out of a page after counting them does so too,
    but then the page is of no round length.
    """
    if not may_be_cut(page.count, 0):
        return False
    for name in shifting:
        here, there = place.get(name, ("0",))[0], page.next_query.get(name, ("",))[0]
        if here.isdecimal() and there.isdecimal() and Decimal(there) - Decimal(here) > page.count:
            return True
    return False
