"""What `connect` hands on: findings, each with its evidence, what the sync will do with it, and the contract's lines that follow from it.

What lives here: values. What does not: how anything was found (`probe` and its neighbours) or is shown (`report`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# certain: seen to be so; likely: nothing speaks against it; low: too little was seen; none: it does not work, or was not found.
Confidence = Literal["certain", "likely", "low", "none"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One key of the contract with the value that was found, and why in a few words. `is_due`: with another value a sync may end red, or miss rows."""

    key: Key
    value: Any
    why: str
    is_due: bool = False

    @property
    def dotted(self) -> str:
        """The key as people write it."""
        return ".".join(self.key)


@dataclass(frozen=True)
class Finding:
    """One answered question. `stream` is empty where it holds for the whole API; `need` is the line a person must fill in before a sync can run."""

    stream: str
    ability: str
    found: str
    evidence: str
    outcome: str
    confidence: Confidence
    lines: tuple[Line, ...] = ()
    need: str = ""


@dataclass(frozen=True)
class Past:
    """What the file says of earlier contacts. `own_keys`: dotted keys that a person wrote; `is_again`: connect wrote the file, or into it, before."""

    own_keys: frozenset[str] = frozenset()
    is_again: bool = False


NO_PAST = Past()


@dataclass
class Learned:
    """Everything a contact found out.

    `empty_columns` and `unmapped`: stream → columns to which nothing maps, attributes that map to no column. `hints`: settings worth a thought.
    `confidence`: stream → how far the mapping of it can be trusted, with the reason. `requests_count` counts GETs, `lists_count` lists that were found.
    """

    findings: list[Finding] = field(default_factory=list)
    empty_columns: dict[str, list[str]] = field(default_factory=dict)
    unmapped: dict[str, list[str]] = field(default_factory=dict)
    confidence: dict[str, tuple[Confidence, str]] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    requests_count: int = 0
    lists_count: int = 0

    def add(self, *findings: Finding) -> None:
        """Note findings, in the order in which they are told."""
        self.findings += findings

    @property
    def lines(self) -> list[Line]:
        """All lines of all findings; of one key the last counts."""
        return list({line.key: line for finding in self.findings for line in finding.lines}.values())

    @property
    def needs(self) -> list[str]:
        """What a person must fill in."""
        return [finding.need for finding in self.findings if finding.need]
