"""How far a long walk is, told to whoever waits for it.

What lives here: counting pages and saying so now and then. What does not: reports of what a run did (`run`, `report`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from resources.pages import Page

PROGRESS_EVERY_S = 10.0
# Where progress is told, one line for a person at a time: a logger's method, or Dagster's.
Tell = Callable[[str], object]


class Progress:
    """Tells now and then how far a long walk is: pages, rows, rate, and time left where a total is known."""

    def __init__(self, stream: str, tell: Tell) -> None:
        self.stream = stream
        self.tell = tell
        self.lock = threading.Lock()
        self.started = self.told = time.monotonic()
        self.pages = 0
        self.rows = 0
        self.total: int | None = None

    def note(self, page: Page) -> None:
        """One page came, in any thread."""
        with self.lock:
            self.pages += 1
            self.rows += page.count
            self.total = page.total if page.total is not None else self.total
            now = time.monotonic()
            if now - self.told < PROGRESS_EVERY_S:
                return
            self.told = now
            rate = self.rows / (now - self.started)
            left = ""
            if self.total and rate and self.total > self.rows:
                left = f", about {(self.total - self.rows) / rate / 60:.1f} minutes left"
            self.tell(f"{self.stream}: {self.pages:,} pages, {self.rows:,} rows, {rate:,.0f} rows/s{left}")
