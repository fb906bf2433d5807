"""The rate budget of one API client: requests are paced before the limit is met, and a 429 lowers the pace for all threads at once.

What lives here: pacing. What does not: which requests are sent or repeated. Units: requests a second, seconds.
Pacing and not reacting: a client that only reacts to 429 wastes half its allowance (docs/decisions.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from resources.retries import StoppedError

SLOWEST_PER_SECOND = 0.2
RECOVERY_AFTER = 100  # answers without a 429 before the pace rises by a tenth again
RECOVERY_S = 1.0  # or so many seconds, since at a slow pace a hundred answers take minutes


def pause(seconds: float, stopped: threading.Event | None) -> None:
    """Wait; raises `StoppedError` as soon as `stopped` is set, and at once where it is set already."""
    if stopped is None:
        # The main thread has no event: the exception that a signal raises there ends its sleep.
        time.sleep(seconds)
    elif stopped.wait(seconds):
        raise StoppedError("The run is being stopped, so this request was not sent.")


class RateBudget:
    """Gives each caller a moment to send; one for each API client, shared by all its threads.

    `sleep` waits in place of the clock of this machine; without it a wait ends as soon as the caller's own stop event is set.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._ceiling = per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._good_answers = 0
        self._since_change = 0
        self._changed_at = clock()
        self.per_second = per_second

    def wait_turn(self, stopped: threading.Event | None = None) -> float:
        """Return when the caller may send one request, with the seconds that it waited; raises `StoppedError` as soon as `stopped` is set."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + 1 / self.per_second
            wait = start - now
        if wait > 0 and self._sleep is not None:
            self._sleep(wait)
        else:
            pause(wait, stopped)
        return wait

    def note_answer(self) -> None:
        """An answer came that was no 429: after many of them, or some time, the pace rises again, up to the configured one."""
        with self._lock:
            self._good_answers += 1
            self._since_change += 1
            now = self._clock()
            if self._since_change >= RECOVERY_AFTER or now - self._changed_at >= RECOVERY_S:
                self._set_pace(min(self._ceiling, self.per_second * 1.1), now)

    def _set_pace(self, per_second: float, now: float) -> None:
        self.per_second, self._since_change, self._changed_at = per_second, 0, now

    def note_limit(self, pause_s: float) -> None:
        """A 429 came: halve the pace and hold everyone for `pause_s`.

        The threads in flight all meet the same limit, so only the first 429 of a pause halves.
        """
        with self._lock:
            now = self._clock()
            if now >= self._free_at - 1 / self.per_second or self._good_answers:
                self._set_pace(max(SLOWEST_PER_SECOND, self.per_second / 2), now)
            self._good_answers = 0
            self._free_at = max(self._free_at, now + pause_s)
            self._changed_at = self._free_at  # a pause is no time without a 429
