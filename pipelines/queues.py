"""What goes between the threads that read and the one that commits: slices to be read, and the parts that came of them.

What lives here: two queues, their order, and that every wait ends. What does not: the threads themselves (`walker`).
"""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heappush
from itertools import count

from pipelines.parts import ComingPart
from pipelines.plan import Slice


class Parts:
    """What the threads that read hand over, in order, each waiting while the parts that nobody took yet hold `most_pages`.

    So reading waits for committing, and memory stays flat, but a thread can go on to its next slice while its last part is shaped.
    """

    def __init__(self, most_pages: int) -> None:
        self._most_pages = most_pages
        self._waiting: deque[tuple[Slice, ComingPart | BaseException | None]] = deque()
        self._pages = 0
        self._is_ended = False
        self._changed = threading.Condition()

    def put(self, piece: Slice, part: ComingPart | BaseException | None) -> None:
        """Hand over a part, what ended the slice, or None: done with it. After the end nobody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or self._pages < self._most_pages)
            self._waiting.append((piece, part))
            self._pages += _pages_of(part)
            self._changed.notify_all()

    def get(self, within_s: float) -> tuple[Slice, ComingPart | BaseException | None] | None:
        """What was handed over first; None where nothing came within so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, within_s):
                return None
            piece, part = self._waiting.popleft()
            self._pages -= _pages_of(part)
            self._changed.notify_all()
            return piece, part

    def end(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()


def _pages_of(part: ComingPart | BaseException | None) -> int:
    return part.weight if isinstance(part, ComingPart) else 0


class Todo:
    """Slices to be read, the newest first, whenever they come; a thread that finds none waits until there is one, or until the end.

    `left`: those that were put in and are not done.
    """

    def __init__(self) -> None:
        self.left = 0
        self._waiting: list[tuple[float, int, Slice]] = []
        self._numbers = count()
        self._is_ended = False
        self._changed = threading.Condition()

    def put(self, piece: Slice) -> None:
        """One more."""
        with self._changed:
            self.left += 1
            heappush(self._waiting, (-piece.window.until.timestamp(), next(self._numbers), piece))
            self._changed.notify()

    def done(self) -> None:
        """One less: it was read, or failed, or lies in pieces that were put in."""
        with self._changed:
            self.left -= 1

    def get(self) -> Slice | None:
        """The newest one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or self._waiting)
            return None if self._is_ended else heappop(self._waiting)[2]

    def end(self) -> None:
        """There is nothing more, for any thread."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
