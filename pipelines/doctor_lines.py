"""A line of `check`: what was looked at, how it is, what was seen or the cure.

What lives here: the line as a value. What does not: looking (`doctor`, `doctor_files`), showing it (`report`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resources.errors import UsageError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class DoctorLine:
    """One finding. `detail` is what was seen or, where the line failed, the cure. `exit_code`: what this line alone would make of the command."""

    name: str
    state: State
    detail: str
    exit_code: int = 0


def failed(name: str, error: Exception) -> DoctorLine:
    """The line of something that raised one of the product's errors, whose text is the cure."""
    return DoctorLine(name, "failed", str(error), 2 if isinstance(error, UsageError) else 1)
