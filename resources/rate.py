"""The rate budget of one API client: requests are paced before the limit is met, and a 429 lowers the pace for all threads at once.

What lives here: pacing. What does not: which requests are sent or repeated. Units: requests a second, seconds.
Pacing and not reacting: a client that only reacts to 429 wastes half its allowance (docs/decisions.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SLOWEST_PER_SECOND = 0.2
RECOVERY_AFTER = 100  # answers without a 429 before the pace rises by a tenth again


class RateBudget:
    """Gives each caller a moment to send; one for each API client, shared by all its threads."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ceiling = per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._good_answers = 0
        self.per_second = per_second
        self.waited_s = 0.0

    def wait_turn(self) -> None:
        """Return when the caller may send one request."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + 1 / self.per_second
            wait = start - now
            self.waited_s += wait
        if wait > 0:
            self._sleep(wait)

    def note_answer(self) -> None:
        """An answer came that was no 429: after many of them the pace rises again, up to the configured one."""
        with self._lock:
            self._good_answers += 1
            if self._good_answers >= RECOVERY_AFTER:
                self._good_answers = 0
                self.per_second = min(self._ceiling, self.per_second * 1.1)

    def note_limit(self, pause_s: float) -> None:
        """A 429 came: halve the pace and hold everyone for `pause_s`.

        The threads in flight all meet the same limit, so only the first 429 of a pause halves.
        """
        with self._lock:
            now = self._clock()
            if now >= self._free_at - 1 / self.per_second or self._good_answers:
                self.per_second = max(SLOWEST_PER_SECOND, self.per_second / 2)
            self._good_answers = 0
            self._free_at = max(self._free_at, now + pause_s)
