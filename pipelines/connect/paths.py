"""Where each stream's list is: described paths, the contract's, plausible ones; what is told where none is found.

What lives here: asking paths until one answers with a list, and lists that look alike. What does not: anything about a list that was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

from pipelines.connect.described import contract_path, unique
from pipelines.connect.findings import Finding, Line, Past
from pipelines.connect.probe import Probe, Seen, content_type, is_list, rows_of, said
from pipelines.streams import ACCOUNTS, streams_of
from resources.appointedd import Look
from resources.contract import Contract
from resources.errors import GaveUpError
from resources.openapi import Description, ListEndpoint

# Streams of which an API may well hold two lists, an older and a newer; of the others, another list is looked for only where the first is empty.
RIVALLED = ("customers", "bookings")


@dataclass
class Paths:
    """The paths of one contact. `refused`: answers that were no list."""

    probe: Probe
    contract: Contract
    description: Description | None
    base_url: str
    past: Past
    refused: list[Look] = field(default_factory=list)

    def find(self, one: Seen) -> Finding:
        """Where a stream's list is: a 404 is an answer."""
        described = self._described(one.endpoint)
        paths = unique(described, [one.names.path], self.contract.plausible.paths.get(one.name, ()))
        path, look, answers = self._first_list(paths)
        if look is None:
            return self._not_found(one.name, answers)
        one.path, one.first = path, look
        self.probe.add_sample(one, look)
        told = f"answered with a list; {', '.join(answers)}" if answers else "answered with a list"
        if path in described:
            told = f"in the OpenAPI file, and {told}"
        if rival := self._rival(one, [p for p in paths if p != path]):
            need = (
                f"{one.name}: two lists look like theirs, {path} ({len(one.rows)} records on its first page) and {rival}, which holds others. "
                f"Write the right one into streams.{one.name}.path."
            )
            return Finding(one.name, "list", f"{path} or {rival}", told, "cannot know", "none", need=need)
        line = Line(("streams", one.name, "path"), path, "answered with a list")
        return Finding(one.name, "list", path, told, "reads it", "certain", (line,))

    def _described(self, *endpoints: ListEndpoint | None) -> list[str]:
        """The paths of lists of the file, as the contract needs them."""
        file = self.description
        return [contract_path(one, file, self.base_url) for one in endpoints if one and file]

    def _first_list(self, paths: Sequence[str]) -> tuple[str, Look | None, list[str]]:
        """The first path that answers with a list, and the list; last, what those before it answered."""
        answers: list[str] = []
        for path in paths:
            look = self.probe.get(path)
            if is_list(look):
                return path, look, answers
            self.refused.append(look)
            answers.append(f"{path} {said(look)}")
        return "", None, answers

    def _not_found(self, stream: str, answers: Sequence[str]) -> Finding:
        came = ", ".join(answer for answer in answers if not answer.endswith("HTTP 404"))
        need = f"{stream}: no list of them was found{f' ({came})' if came else ''}. Put its path into streams.{stream}.path."
        if code := next((code for code in (403, 401) if any(f"HTTP {code}" in a for a in answers)), None):
            need = f"{stream}: the API client may not read them (HTTP {code}). Its creator can change its permissions in Appointedd."
        # What was never seen must not pass for proven in a later contact.
        unseen = () if self.past.is_again else ("filters", "account_filter")
        off = tuple(Line(("streams", stream, key), False, "its list was not seen") for key in unseen)
        return Finding(stream, "list", "not found", ", ".join(answers), "would fail", "none", off, need)

    def none_found(self, findings: Sequence[Finding]) -> list[Finding]:
        """The findings where no list at all was found: one need where every path that is there was answered alike."""
        there = [look for look in self.refused if look.status != 404] or self.refused
        if len({(look.status, look.status == 200 and content_type(look)) for look in there}) != 1:
            return list(findings)
        look = there[0]
        need = f"No list was found: all that is there is answered alike, {look.url} with {self._came(look)}"
        return [replace(finding, need=need if finding is findings[0] else "") for finding in findings]

    def _came(self, look: Look) -> str:
        """What an answer is that is no list, and what may be wrong."""
        told, setting = said(look), "Is APPOINTEDD_BASE_URL right?"
        if 300 <= look.status < 400:
            target = urlsplit(urljoin(look.url, look.headers.get("location", "")))
            shown = f"{target.scheme}://{target.netloc}{target.path}"
            return f"{told} to {shown}. Redirects are not followed with a token: put what differs there into APPOINTEDD_BASE_URL or streams.….path."
        if look.status != 200:
            return f"{told}. {setting} It often ends with a version. Else put the paths into streams.….path."
        if "html" in content_type(look):
            return f"{told}: a page for people, such as a login. {setting}"
        if look.document is not None and look.document.get("data", ()) is None:
            return f"{told}: data is null. If that is this API's empty list, say so: document.null_is_empty = true."
        if look.document is not None:
            return f"{told}: a document without a list under data. This product reads JSON:API only; a programmer must teach it another form."
        try:
            body = self.probe.body(look).lstrip()
        except GaveUpError as error:
            return f"{told}, and then: {error}"
        form = "an array, not a document" if body.startswith(b"[") else "no JSON"
        return f"{told}: {form}. A programmer must teach this product that form."

    def _rival(self, one: Seen, paths: Sequence[str]) -> str:
        """Another list that looks like the stream's own and holds other records; only described ones where there is a file, none where a person chose."""
        is_likely = not one.rows or one.name in RIVALLED
        if f"streams.{one.name}.path" in self.past.own_keys or not is_likely or (one.stream is ACCOUNTS and one.rows):
            return ""
        if self.description is not None:
            described = self._described(*self.description.lists)
            paths = [path for path in paths if path in described]
        for path in paths:
            rows = rows_of(self.probe.get(path)).keys()
            if rows and not rows & one.rows.keys():
                return path
        return ""

    def kept_as_documents(self, name: str, endpoint: ListEndpoint | None) -> tuple[Finding, Seen | None]:
        """A list that is stored generically, as intent events are: where it is, and of which type; nothing in it needs to be matched."""
        names = self.contract.streams[name]
        paths = [names.path, *self.contract.plausible.paths.get(name, ())]
        # A path that a person wrote is the list that a sync reads.
        if f"streams.{name}.path" not in self.past.own_keys:
            paths = self._described(endpoint) or paths
        path, look, answers = self._first_list(paths)
        if look is None:
            told = ", ".join(answers)
            if not names.enabled:
                return Finding(name, "list", "not found", told, "leaves it", "none"), None
            need = f"{name}: no list of them was found ({told}). Correct streams.{name}.path, or leave it out with streams.{name}.enabled = false."
            return Finding(name, "list", "not found", told, "would fail", "none", need=need), None
        added = Seen(streams_of(self.contract)[name], names, endpoint, path, look) if names.enabled else None
        outcome = "reads it" if names.enabled else f"leaves it, until streams.{name}.enabled is true"
        lines = [Line(("streams", name, "path"), path, "answered with a list")]
        types = list(dict.fromkeys(str(r.get("type")) for r in rows_of(look).values()))
        if types and not set(types) <= set(names.types):
            lines.append(Line(("streams", name, "types"), types, "the type of every record seen"))
        told = "in the OpenAPI file, and answered with a list" if endpoint else "answered with a list"
        return Finding(name, "list", path, told, outcome, "certain", tuple(lines)), added
