"""One difference between the running contract and a vendor's OpenAPI file, and what it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Weight = Literal["breaking", "harmless"]


@dataclass(frozen=True)
class Difference:
    """One difference. `stream` is empty where it holds for the whole API; `cure` names the contract's key, or says what happens by itself."""

    weight: Weight
    stream: str
    what: str
    cure: str
