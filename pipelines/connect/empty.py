"""How an empty list is written here, asked with one window in which nothing changed: most nights some list has no change at all.

What lives here: that question, and what follows from it. What does not: filters as such (`changes`), lists that are not found (`paths`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipelines.connect.asking import sent
from pipelines.connect.changes import instant_text
from pipelines.connect.findings import Finding, Line
from pipelines.connect.probe import Probe, Seen, is_list, rows_of, said
from resources.contract import Contract

ABILITY = "empty lists"
# Before any booking of this API; a bound in the future may be refused for itself.
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)


def empty(probe: Probe, seen: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Ask for a window that holds nothing; `contract` as it is settled so far. Nothing where no list is filtered."""
    filtered = [one for one in seen if "updated_since" in sent(one.stream, contract)]
    if not filtered or probe.is_spent:
        return []
    parameters = contract.parameters
    query = {parameters.updated_since: instant_text(datetime.now(UTC) + timedelta(days=1))}
    if "updated_until" in sent(filtered[0].stream, contract):
        query = {
            parameters.updated_since: instant_text(LONG_AGO),
            parameters.updated_until: instant_text(LONG_AGO + timedelta(days=1)),
        }
    look = probe.page(filtered[0], query)
    told = f"{filtered[0].name} asked for a window in which nothing changed"
    if look.status == 404:
        why = "HTTP 404 where nothing changed, so a night without changes would be red"
        lines = tuple(Line(("streams", one.name, "filters"), False, why) for one in filtered)
        return [Finding("", ABILITY, "HTTP 404", told, "filters no list, and reads each whole", "certain", lines)]
    if not is_list(look) or rows_of(look):
        return [Finding("", ABILITY, "not known", f"{told}: {said(look)}", "as it is", "low")]
    if any(answer.url in probe.nulls for one in seen for answer in probe.answers_to(one)):
        line = Line(("document", "null_is_empty"), True, "data is null where nothing changed")
        return [Finding("", ABILITY, "data is null", told, "takes that for an empty list", "certain", (line,))]
    return [Finding("", ABILITY, "an empty list", told, "reads them", "certain")]
