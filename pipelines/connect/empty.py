"""How an empty list is written here, each asked with a window in which nothing changed: most nights some list has no change at all.

What lives here: that question, and what follows from it. What does not: filters as such (`changes`), lists that are not found (`paths`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipelines.connect.asking import sent
from pipelines.connect.changes import instant_text
from pipelines.connect.findings import Finding, Line
from pipelines.connect.probe import Probe, Seen, is_list, rows_of, said
from resources.appointedd import Look
from resources.contract import Contract

ABILITY = "empty lists"
BAD_REQUEST, NOT_FOUND = 400, 404
# Before any booking of this API.
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
ASKED = "asked for a window in which nothing changed"


def empty(probe: Probe, seen: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Ask each list that is filtered for a window that holds nothing; `contract` as it is settled so far."""
    filtered = [one for one in seen if "updated_since" in sent(one.stream, contract)]
    looks = {one.name: _look(probe, one, contract) for one in filtered if not probe.is_spent}
    empties = [name for name, look in looks.items() if is_list(look) and not rows_of(look)]
    findings = [_odd(name, look) for name, look in looks.items() if name not in empties]
    if not empties:
        return findings
    told = f"{', '.join(empties)}: {ASKED}"
    if any(answer.url in probe.nulls for one in seen for answer in probe.answers_to(one)):
        line = Line(("document", "null_is_empty"), True, "data is null where nothing changed")
        return [
            *findings,
            Finding("", ABILITY, "data is null", told, "takes that for an empty list", "certain", (line,)),
        ]
    return [*findings, Finding("", ABILITY, "an empty list", told, "reads them", "certain")]


def _look(probe: Probe, one: Seen, contract: Contract) -> Look:
    parameters = contract.parameters
    if "updated_until" in sent(one.stream, contract):
        bounds = {
            parameters.updated_since: instant_text(LONG_AGO),
            parameters.updated_until: instant_text(LONG_AGO + timedelta(days=1)),
        }
        look = probe.page(one, bounds)
        if look.status < 400 or look.status == NOT_FOUND:
            return look
    # A bound may be refused because it lies so long ago, and another because it lies in the future.
    return probe.page(one, {parameters.updated_since: instant_text(datetime.now(UTC) + timedelta(days=1))})


def _odd(stream: str, look: Look) -> Finding:
    """What follows where a list came that is not empty, or no list. It holds for this stream alone."""
    # A sync finds out for itself what is refused with a 400.
    if is_list(look) or look.status == BAD_REQUEST:
        return Finding(stream, ABILITY, "not known", f"{ASKED}: {said(look)}", "as it is", "low")
    why = f"{said(look)} where nothing changed, so a night without changes would be red"
    line = Line(("streams", stream, "filters"), False, why)
    outcome = "does not filter this list, and reads it whole each time"
    return Finding(stream, ABILITY, said(look), ASKED, outcome, "certain", (line,))
