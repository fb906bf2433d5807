"""Work on pages that is done beside fetching them: one thread that shapes, and a limit to what waits for it.

What lives here: that thread, its queue, the bytes that are fetched and not yet shaped. What does not: what shaping is (`reading`, `normalise`), the
threads that fetch and the one that commits (`walker`). One thread, since shaping holds the interpreter's lock: with as many as fetch, they fought over it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

# Bodies that are fetched and not yet shaped, for all slices of a plan together. Decoded, one batch of them at a time is about eight times as large.
MOST_WAITING_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


def _do(work: Callable[[], T], done: Future[T]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
        done.set_exception(error)


class AtOnce:
    """Does all work where it is asked for, for lists that are walked by the thread that needs them; nothing waits."""

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do it."""
        done: Future[T] = Future()
        _do(work, done)
        return done

    def take(self, size: int) -> bool:
        """There is room."""
        return True

    def wait_and_take(self, size: int) -> None:
        """There is room."""

    def give_back(self, size: int) -> None:
        """Nothing was taken."""


class Shaper:
    """A thread that does one piece of work after the other, in the order in which they were submitted. End it, or use it in a `with`.

    Whoever holds a page takes its bytes first and gives them back after it was shaped. Nobody may hold pages that are not submitted while waiting for
    room: then what is held is either being worked off or belongs to a thread that does not wait, so every wait ends.
    """

    def __init__(self, most_bytes: int = MOST_WAITING_BYTES) -> None:
        self.most_bytes = most_bytes
        self.held = 0
        self.is_ended = False
        self._room = threading.Condition()
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._undone: set[Future[object]] = set()
        self.thread = threading.Thread(target=self._work, name="shaper", daemon=True)
        self.thread.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have it done after all that was submitted before. Once the shaper has ended, the result is cancelled."""
        done: Future[T] = Future()
        with self._room:
            if self.is_ended:
                done.cancel()
                return done
            self._undone.add(done)  # type: ignore[arg-type]  # only to be cancelled
            self._todo.put(lambda: _do(work, done))
        done.add_done_callback(self._forget)
        return done

    def _forget(self, done: Future[T]) -> None:
        with self._room:
            self._undone.discard(done)

    def _work(self) -> None:
        while (work := self._todo.get()) is not None:
            work()
            del work  # and with it the pages, before the next piece is waited for

    def take(self, size: int) -> bool:
        """Take so many bytes where there is room for them; a page that is larger than all the room comes in alone."""
        with self._room:
            return self._take(size)

    def _take(self, size: int) -> bool:
        if not self.is_ended and self.held and self.held + size > self.most_bytes:
            return False
        self.held += size
        return True

    def wait_and_take(self, size: int) -> None:
        """Take so many bytes as soon as there is room, or the shaper has ended."""
        with self._room:
            while not self._take(size):
                self._room.wait()
            self._room.notify()  # there may be room for another

    def give_back(self, size: int) -> None:
        """So many bytes are let go of."""
        with self._room:
            self.held -= size
            self._room.notify()

    def end(self) -> None:
        """Begin nothing more, cancel what waits, wake whoever waits for room. What is being done goes on to its end; `thread` ends after it."""
        with self._room:
            self.is_ended = True
            undone = list(self._undone)
            self._room.notify_all()
        for done in undone:
            done.cancel()
        self._todo.put(None)
