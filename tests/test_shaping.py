"""The thread that shapes, and the room for what waits for it: order, what is raised, and that every wait ends."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest

from pipelines.shaping import Shaper


def test_work_is_done_in_order_in_one_thread_and_raises_where_it_is_asked_for() -> None:
    shaper = Shaper()
    seen: list[tuple[int, str]] = []
    futures = [shaper.submit(lambda n=n: seen.append((n, threading.current_thread().name))) for n in range(50)]  # type: ignore[misc]
    broken = shaper.submit(lambda: 1 // 0)
    for future in futures:
        future.result(5)
    assert seen == [(n, "shaper_0") for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        broken.result(5)
    assert shaper.submit(lambda: 7).result(5) == 7  # a failure ends nothing but itself
    shaper.end()
    (thread,) = shaper.threads
    thread.join(5)
    assert not thread.is_alive()


def test_work_beyond_the_room_waits_until_other_work_is_done() -> None:
    shaper = Shaper(most_bytes=100)
    go_on, came = threading.Event(), threading.Event()
    first = shaper.submit(lambda: go_on.wait(5), 1000)  # alone it may come in, however large

    def submit() -> None:
        shaper.submit(lambda: None, 60).result(5)
        came.set()

    threading.Thread(target=submit, daemon=True).start()
    assert not came.wait(0.1)
    go_on.set()
    assert first.result(5)
    assert came.wait(5)
    shaper.end()


def test_the_end_wakes_whoever_waits() -> None:
    shaper = Shaper(most_bytes=100)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(5)

    running = shaper.submit(work)
    queued = shaper.submit(lambda: 1, 100)
    late: list[Future[int]] = []
    waiting = [
        threading.Thread(target=lambda: late.append(shaper.submit(lambda: 1, 60)), daemon=True) for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    assert begun.wait(5)
    shaper.end()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()
    with pytest.raises(CancelledError):
        queued.result(5)
    for future in (*late, shaper.submit(lambda: 1)):
        with pytest.raises(CancelledError):
            future.result(5)
    go_on.set()
    assert running.result(5)
