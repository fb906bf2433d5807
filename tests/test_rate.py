"""The rate budget on a clock that only moves when somebody sleeps: the pace, what a 429 does to it, and how it recovers."""

from __future__ import annotations

import threading
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.rate import RECOVERY_AFTER, RECOVERY_S, SLOWEST_PER_SECOND, RateBudget
from resources.retries import StoppedError

PROPERTY = settings(derandomize=True, deadline=None, max_examples=100)


class Time:
    """A clock and the sleep that moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def budget(per_second: float) -> tuple[RateBudget, Time]:
    time = Time()
    return RateBudget(per_second, time.clock, time.sleep), time


def test_the_first_request_goes_at_once_and_the_rest_are_paced() -> None:
    rate, time = budget(4)
    waited = [rate.wait_turn() for _ in range(5)]
    assert time.slept == pytest.approx([0.25] * 4)
    assert waited == pytest.approx([0.0, *[0.25] * 4])


def test_idle_time_is_no_credit_for_a_burst() -> None:
    rate, time = budget(4)
    rate.wait_turn()
    time.now += 60
    rate.wait_turn()
    assert time.slept == []
    rate.wait_turn()
    assert time.slept == pytest.approx([0.25])


def test_a_429_halves_the_pace_and_holds_everybody() -> None:
    rate, time = budget(8)
    rate.wait_turn()
    rate.note_answer()
    rate.note_limit(5)
    assert rate.per_second == 4
    began = time.now
    rate.wait_turn()
    assert time.now - began == pytest.approx(5)
    rate.wait_turn()
    assert time.now - began == pytest.approx(5.25)


def test_the_429s_of_one_pause_halve_once() -> None:
    rate, _ = budget(8)
    rate.note_answer()
    for _ in range(10):
        rate.note_limit(5)
    assert rate.per_second == 4


def test_a_429_after_the_pause_halves_again() -> None:
    rate, time = budget(8)
    rate.note_limit(5)
    time.now += 6
    rate.note_limit(5)
    assert rate.per_second == 2


def test_a_429_after_answers_halves_again() -> None:
    rate, _ = budget(8)
    rate.note_limit(5)
    rate.note_answer()
    rate.note_limit(5)
    assert rate.per_second == 2


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    rate, time = budget(8)
    rate.note_limit(60)
    rate.note_limit(1)
    rate.wait_turn()
    assert time.slept == pytest.approx([60])


def test_the_pace_never_falls_to_nothing() -> None:
    rate, time = budget(8)
    for _ in range(50):
        time.now += 1000
        rate.note_limit(1)
    assert rate.per_second == SLOWEST_PER_SECOND


def test_many_good_answers_raise_the_pace_up_to_the_ceiling_and_no_further() -> None:
    rate, time = budget(8)
    rate.note_limit(1)
    for _ in range(RECOVERY_AFTER - 1):
        rate.note_answer()
    assert rate.per_second == 4
    rate.note_answer()
    assert rate.per_second == pytest.approx(4.4)
    for _ in range(RECOVERY_AFTER * 20):
        rate.note_answer()
    assert rate.per_second == 8
    time.now += 1000
    rate.wait_turn()
    rate.wait_turn()
    assert time.slept[-1] == pytest.approx(1 / 8)


def test_a_pause_is_no_time_without_a_429() -> None:
    rate, time = budget(8)
    rate.note_limit(RECOVERY_S * 5)
    rate.wait_turn()
    rate.note_answer()
    assert rate.per_second == 4
    time.now += RECOVERY_S
    rate.note_answer()
    assert rate.per_second == pytest.approx(4.4)


def test_a_429_forgets_the_answers_before_it() -> None:
    rate, _ = budget(8)
    for _ in range(RECOVERY_AFTER - 1):
        rate.note_answer()
    rate.note_limit(1)
    rate.note_answer()
    assert rate.per_second == 4


@PROPERTY
@given(
    st.floats(0.5, 100),
    st.lists(st.sampled_from(["send", "send", "send", "answer", "limit"]) | st.floats(0, 3), max_size=60),
)
def test_no_second_sees_more_than_its_share(per_second: float, happenings: list[str | float]) -> None:
    rate, time = budget(per_second)
    sent = []
    for what in happenings:
        if what == "send":
            rate.wait_turn()
            sent.append(time.now)
        elif what == "answer":
            rate.note_answer()
        elif what == "limit":
            rate.note_limit(1)
            held_until = time.now + 1
            rate.wait_turn()
            assert time.now >= held_until - 1e-6
            sent.append(time.now)
        elif isinstance(what, float):
            time.now += what
    assert all(b - a >= 1 / per_second - 1e-6 for a, b in pairwise(sent))


def test_a_turn_is_waited_for_by_this_machines_clock_and_by_the_event_that_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return self.is_set()

    monkeypatch.setattr("resources.rate.time.sleep", waits.append)
    rate, stopped = RateBudget(4, lambda: 1000.0), Stopped()
    for who in (None, stopped, None, stopped):
        rate.wait_turn(who)
    assert waits == pytest.approx([0.0, 0.25, 0.5, 0.75])
    stopped.set()
    with pytest.raises(StoppedError):
        rate.wait_turn(stopped)


def test_threads_share_one_budget() -> None:
    # Nobody really sleeps, and the clock stands still: each thread is told another moment.
    waits: list[float] = []
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    rate = RateBudget(10, lambda: 0.0, sleep)
    threads = [threading.Thread(target=rate.wait_turn) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([n / 10 for n in range(1, 20)])


def test_429s_now_and_then_do_not_slow_a_run_to_a_crawl() -> None:
    # One request in twenty refused, whatever the pace: with recovery by answers alone this took 43 minutes.
    rate, time = budget(10)
    rng, began = Random(1), time.now
    for _ in range(541):
        rate.wait_turn()
        if rng.random() < 0.05:
            rate.note_limit(1)
        else:
            rate.note_answer()
    assert time.now - began < 8 * 60
