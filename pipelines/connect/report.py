"""How `connect` and `contract` show what they found; the shape of each one's JSON is in the docstring of its `…_json`.

What lives here: rendering. What does not: tables and sentences as such (`pipelines.console`), finding anything out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipelines.connect.contact import Contact
from pipelines.connect.difference import Difference
from pipelines.console import Json, plain, print_lines, print_table
from resources.openapi import Description

# connect


def connect_json(done: Contact) -> Json:
    """What `connect --json` prints.

    {can_sync, path, is_written, is_used_by_sync, findings: [{stream, ability, found, evidence, outcome, confidence, need}], changes: [{key, before, after,
    why}], disagreements: [{key, own, found, why}], needs: [text], hints: [text], empty_columns: {stream: [name]}, unmapped: {stream: [name]}, confidence:
    {stream: {level, reason}}, requests_count}

    `stream` null: it holds for the whole API. `before`, `after` null: no line of its own. `requests_count`: GETs.
    """
    learned = done.learned
    return {
        "can_sync": not learned.needs,
        "path": done.path,
        "is_written": done.is_written,
        "is_used_by_sync": done.is_used,
        "findings": [
            {k: v for k, v in {**vars(f), "stream": f.stream or None, "need": f.need or None}.items() if k != "lines"}
            for f in learned.findings
        ],
        "changes": [vars(c) for c in done.override.changes],
        "disagreements": [vars(d) for d in done.override.disagreements],
        "needs": learned.needs,
        "hints": learned.hints,
        "empty_columns": learned.empty_columns,
        "unmapped": learned.unmapped,
        "confidence": {s: {"level": level, "reason": reason} for s, (level, reason) in learned.confidence.items()},
        "requests_count": learned.requests_count,
    }


def show_connect(done: Contact, *, is_whole: bool) -> None:
    """Every finding, or only those behind a line that changed; then the streams, what differs from the person's own lines, and what is left to do."""
    learned, override = done.learned, done.override
    changed = {c.key for c in override.changes} | {d.key for d in override.disagreements}
    shown_ones = [f for f in learned.findings if is_whole or f.need or changed & {line.dotted for line in f.lines}]
    if shown_ones:
        print_table(
            ["for", "ability", "found", "how we know", "what the sync will do", "confidence"],
            [[f.stream or "API", f.ability, f.found, f.evidence, f.outcome, f.confidence] for f in shown_ones],
        )
    if override.changes and not (is_whole and done.is_written):  # else the file itself shows them, each with its reason
        print_table(
            ["line of the contract", "was", "is", "why"],
            [[c.key, _toml(c.before), _toml(c.after), c.why] for c in override.changes],
        )
    if is_whole:
        print_table(
            ["stream", "confidence", "because", "columns that stay empty", "attributes that map to no column"],
            [
                [s, level, reason, ", ".join(learned.empty_columns.get(s, ())), ", ".join(learned.unmapped.get(s, ()))]
                for s, (level, reason) in learned.confidence.items()
            ],
        )
    print_lines(
        *(
            f"yours stays: {d.key} = {_toml(d.own)}; found was {_toml(d.found)} ({d.why})"
            for d in override.disagreements
        )
    )
    print_lines(*(f"hint for .env: {hint}" for hint in learned.hints))
    print_lines(*(f"to fill in: {need}" for need in learned.needs))
    _show_end(done)


def _show_end(done: Contact) -> None:
    count = len(done.override.changes)
    changes = f"{count} line" if count == 1 else f"{count} lines"
    asked = f"{done.learned.requests_count} GETs"
    if done.is_written:
        reasons = ", each with its reason" if count else ""
        print_lines(f"Wrote {done.path}: {changes} changed{reasons}, after {asked}.")
    elif not done.learned.lists_count:
        print_lines(f"No list was found, so {done.path} was left alone. {asked}.")
    elif done.override.changes or done.is_first:
        print_lines(f"Dry run: {done.path} was left alone; {changes} would change. {asked}.")
    else:
        print_lines(f"Nothing changed: {done.path} says it all. {asked}.")
    if not done.is_used:
        print_lines(f"The sync reads another contract; to use this one, set APPOINTEDD_CONTRACT={done.path}")
    if done.learned.needs:
        print_lines("A sync cannot run yet; fill in the lines above, and connect again.")
    else:
        print_lines("A sync can run: appointedd-warehouse sync")


def _toml(value: object) -> str:
    return "" if value is None else json.dumps(plain(value), ensure_ascii=False)


# contract


def contract_json(description: Description, found: Sequence[Difference]) -> Json:
    """What `contract --json` prints: {source, version, is_breaking, differences: [{weight: "breaking" | "harmless", stream, what, cure}]}."""
    return {
        "source": description.source,
        "version": description.version,
        "is_breaking": any(d.weight == "breaking" for d in found),
        "differences": [{**vars(d), "stream": d.stream or None} for d in found],
    }


def show_contract(description: Description, found: Sequence[Difference]) -> None:
    """The differences, breaking ones first, and how many of each there are."""
    if found:
        print_table(
            ["weight", "for", "difference", "where to mend it"],
            [[d.weight, d.stream or "API", d.what, d.cure] for d in found],
        )
    breaking = sum(d.weight == "breaking" for d in found)
    name = f"{description.title} {description.version}".strip() or description.source
    print_lines(f"{name}: {breaking} breaking and {len(found) - breaking} harmless differences.")
