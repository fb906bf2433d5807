"""Pages shaped in processes beside this one: the same batch, and nothing lost when such a process is not there, not ready or killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines import beside
from pipelines.beside import Answer, Question, ShapingProcesses, is_of_use
from pipelines.normalise import Batch, normalise_pages
from pipelines.slots import Body
from pipelines.streams import BOOKINGS
from resources.contract import load_contract
from tests.test_fuzz import true_bodies

NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
CONTRACT = load_contract()
COMES_UP_WITHIN_S = 60.0


def question(number: int = 0) -> Question:
    bodies = true_bodies()[BOOKINGS.name]
    return Question(BOOKINGS, CONTRACT, [Body(bodies[number % len(bodies)], NOW)], {}, None, None)


def shaped(asked: Question) -> Batch:
    return normalise_pages(**vars(asked))


def same(one: Batch | None, other: Batch) -> bool:
    return (
        one is not None
        and one.rows.equals(other.rows)
        and one.rows.schema == other.rows.schema
        and one.children.keys() == other.children.keys()
        and all(one.children[name].equals(frame) for name, frame in other.children.items())
        and (one.read_count, one.drift, one.examples, one.present)
        == (other.read_count, other.drift, other.examples, other.present)
    )


def first_answer(process: ShapingProcesses, asked: Question) -> Batch | None:
    """Asked until it has come up, however long that takes on this machine."""
    until = time.monotonic() + COMES_UP_WITHIN_S
    while time.monotonic() < until:
        answer = process.batch_of(asked)
        if answer is not None:
            return answer
        time.sleep(0.05)
    return None


@pytest.fixture
def process() -> Iterator[ShapingProcesses]:
    """One alone."""
    made = ShapingProcesses(most=1, least_pages=1)
    yield made
    made.close()


def pid_of(processes: ShapingProcesses) -> int:
    process = processes._started[0]._process
    assert process is not None
    return process.pid


def test_an_answer_is_the_batch_again() -> None:
    batch = shaped(question())
    assert batch.rows.height > 0
    assert same(Answer.of(batch).unpacked(), batch)


def test_it_makes_the_same_batches_for_several_threads(process: ShapingProcesses) -> None:
    assert same(first_answer(process, question()), shaped(question()))
    wrong: list[int] = []

    def ask(start: int) -> None:
        wrong.extend(
            number
            for number in range(start, start + 6)
            if not same(process.batch_of(question(number)), shaped(question(number)))
        )

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def test_what_is_asked_while_they_come_up_waits_for_them(
    process: ShapingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "COME_UP_WITHIN_S", COMES_UP_WITHIN_S)
    assert same(process.batch_of(question()), shaped(question()))


def test_one_that_does_not_come_up_is_done_without(process: ShapingProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "COME_UP_WITHIN_S", 0.2)
    monkeypatch.setattr(beside, "_PROGRAM", "import time; time.sleep(600) # {answers}")
    for _ in range(3):
        assert process.batch_of(question()) is None
    process.close()


def test_closing_ends_the_wait_for_one_that_comes_up(
    process: ShapingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "COME_UP_WITHIN_S", 600.0)
    monkeypatch.setattr(beside, "_PROGRAM", "import time; time.sleep(600) # {answers}")
    answers: list[Batch | None] = []
    asking = threading.Thread(target=lambda: answers.append(process.batch_of(question())))
    asking.start()
    assert not answers
    process.close()
    asking.join(30)
    assert answers == [None]


def test_what_is_not_plain_is_left_to_whoever_asked(process: ShapingProcesses) -> None:
    assert first_answer(process, question()) is not None
    odd = Question(BOOKINGS, CONTRACT, [Body(b'{"data":[{"type":"bookings","id":7}]}', NOW)], {}, None, None)
    assert process.batch_of(odd) is None
    assert process.batch_of(question()) is not None  # and it goes on


def test_a_killed_process_is_done_without(process: ShapingProcesses, caplog: pytest.LogCaptureFixture) -> None:
    assert first_answer(process, question()) is not None
    os.kill(pid_of(process), signal.SIGKILL)
    assert process.batch_of(question()) is None
    assert "shaped without it from now on" in caplog.text
    assert process.batch_of(question()) is None


def test_a_process_that_does_not_answer_is_ended_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    process = ShapingProcesses(most=1, least_pages=1, answers_within_s=2.0)
    try:
        assert first_answer(process, question()) is not None
        os.kill(pid_of(process), signal.SIGSTOP)
        assert process.batch_of(question()) is None
        assert "shaped without it from now on" in caplog.text
    finally:
        process.close()


def test_what_is_printed_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('good morning', flush=True)", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    process = ShapingProcesses(most=1, least_pages=1)
    try:
        assert same(first_answer(process, question()), shaped(question()))
    finally:
        process.close()


def test_without_room_for_a_larger_pipe_it_works_all_the_same(
    process: ShapingProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert same(first_answer(process, question()), shaped(question()))


def test_closing_ends_it_and_whoever_waits(process: ShapingProcesses) -> None:
    assert first_answer(process, question()) is not None
    pid = pid_of(process)
    os.kill(pid, signal.SIGSTOP)
    answers: list[Batch | None] = []
    asking = [threading.Thread(target=lambda: answers.append(process.batch_of(question()))) for _ in range(2)]
    for thread in asking:
        thread.start()
    until = time.monotonic() + 30
    while (
        process._started[0]._asked < 2 and time.monotonic() < until
    ):  # the answer to the first is being read, the second is on its way
        time.sleep(0.01)
    process.close()
    for thread in asking:
        thread.join(30)
        assert not thread.is_alive()
    assert answers == [None, None]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux shows another process's environment")
def test_it_is_not_told_the_secret(process: ShapingProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPOINTEDD_CLIENT_SECRET", "canary-7c1d")
    assert first_answer(process, question()) is not None
    assert b"canary-7c1d" not in Path(f"/proc/{pid_of(process)}/environ").read_bytes()


def test_none_is_started_for_a_few_pages_and_each_when_enough_have_come() -> None:
    processes = ShapingProcesses(most=2, least_pages=3)
    try:
        counts = []
        for _ in range(9):
            processes.batch_of(question())
            counts.append(len(processes._started))
        assert counts == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    finally:
        processes.close()
    assert processes.batch_of(question()) is None
    assert not is_of_use(4)  # the default takes no memory for them


def test_what_is_foreseen_starts_them_at_once() -> None:
    processes = ShapingProcesses(most=2, least_pages=3)
    try:
        processes.foresee(5)
        assert len(processes._started) == 1
        processes.foresee(50)
        assert len(processes._started) == 2
    finally:
        processes.close()
    processes.foresee(50)  # nothing is started any more
    assert len(processes._started) == 2


def test_questions_are_shared_out_and_one_that_is_killed_leaves_the_other() -> None:
    processes = ShapingProcesses(most=2, least_pages=1)
    try:
        processes.foresee(2)
        until = time.monotonic() + COMES_UP_WITHIN_S
        while not all(one.is_ready() for one in processes._started) and time.monotonic() < until:
            time.sleep(0.05)
        for one in processes._started:
            assert one._process is not None
            os.kill(one._process.pid, signal.SIGSTOP)
        answers: list[Batch | None] = []
        asking = [threading.Thread(target=lambda: answers.append(processes.batch_of(question()))) for _ in range(2)]
        for thread in asking:
            thread.start()
        while [one._asked for one in processes._started] != [1, 1] and time.monotonic() < until:
            time.sleep(0.01)
        assert [one._asked for one in processes._started] == [1, 1]
        first, second = (one._process for one in processes._started)
        assert first is not None
        assert second is not None
        first.kill()
        os.kill(second.pid, signal.SIGCONT)
        for thread in asking:
            thread.join(30)
            assert not thread.is_alive()
        assert sorted(answer is None for answer in answers) == [False, True]
        assert same(processes.batch_of(question()), shaped(question()))
    finally:
        processes.close()


def test_it_ends_without_a_word_where_whoever_started_it_has_ended() -> None:
    reading, writing = os.pipe()
    program = f"from pipelines.beside import serve; serve({writing})"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(writing,)
    ) as process:
        os.close(writing)
        os.close(reading)
        _, told = process.communicate(timeout=COMES_UP_WITHIN_S)
    assert (process.returncode, told) == (0, b"")


def test_a_ctrl_c_in_the_terminal_is_not_for_it(process: ShapingProcesses) -> None:
    process.foresee(1)
    assert os.getpgid(pid_of(process)) != os.getpgid(0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_it_does_not_outlive_whoever_started_it() -> None:
    program = (
        "import time; from tests.test_beside import *; p = ShapingProcesses(most=1, least_pages=1);"
        "first_answer(p, question()); print(pid_of(p), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            if state == "Z":  # nobody's child any more, and not yet waited for
                return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    raise AssertionError("The shaping process lives on.")
