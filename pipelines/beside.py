"""Pages shaped in processes beside this one: Python shapes in one thread at a time, and with many requests in flight that is what a first load waits for.

What lives here: the processes, what is said to them and what they answer. What does not: what shaping is (`normalise`), when it is asked for
(`parts`). A process only ever makes frames out of bytes. It ends when its standard input does, so it never outlives this one, however that ends; and
whatever it does not answer is shaped here, so nothing depends on it but time.
"""

from __future__ import annotations

import fcntl
import gc
import io
import logging
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, BinaryIO

import polars as pl

from pipelines.normalise import Batch, normalise_pages
from pipelines.slots import Body
from pipelines.streams import Stream
from resources.contract import Contract

log = logging.getLogger(__name__)
# With fewer requests in flight fetching is what is waited for, and a second process would only take memory.
LEAST_IN_FLIGHT = 8
# Starting costs half a second of another core; what brings less than so many pages for each process ends before that has paid.
LEAST_PAGES = 60
# One alone waits a fifth of its time for questions; beyond two, committing is what is waited for.
MOST_PROCESSES = 2
# One that is worked on, and one on its way.
QUESTIONS_EACH = 2
# While they come up, which takes half a second, nobody shapes here: it would keep the threads that fetch from the interpreter. After so long somebody does.
COME_UP_WITHIN_S = 2.0
PIPE_BYTES = 1024 * 1024
# A batch takes a tenth of a second. A process that is stopped, or swapped out, ends after so long, and what it was asked is shaped here.
ANSWERS_WITHIN_S = 60.0
_PROGRAM = "from pipelines.beside import serve; serve({answers})"
READY = "ready"
# What reading from a process that has ended raises, or writing to it.
_ENDED = (OSError, EOFError, ValueError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Question:
    """Pages to be shaped: the arguments of `normalise_pages`."""

    stream: Stream
    contract: Contract
    bodies: Sequence[Body]
    zones: Mapping[str, str]
    default_account: str | None
    keeps: frozenset[str] | None


@dataclass(frozen=True)
class Answer:
    """A batch on its way: its frames as Arrow streams, the rest as it is."""

    batch: Batch
    rows: bytes
    children: Mapping[str, bytes]

    @classmethod
    def of(cls, batch: Batch) -> Answer:
        """A batch, packed."""
        children = {name: _packed(frame) for name, frame in batch.children.items()}
        return cls(replace(batch, rows=pl.DataFrame(), children={}), _packed(batch.rows), children)

    def unpacked(self) -> Batch:
        """The batch again."""
        children = {name: pl.read_ipc_stream(stream) for name, stream in self.children.items()}
        return replace(self.batch, rows=pl.read_ipc_stream(self.rows), children=children)


def _packed(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    return stream.getvalue()


def is_of_use(in_flight: int) -> bool:
    """Whether processes beside this one are worth their memory."""
    return in_flight >= LEAST_IN_FLIGHT and (os.cpu_count() or 1) > 1


class ShapingProcesses:
    """The processes, each started when enough pages have come. Any number of threads may ask; `most_questions` at once keep all of them busy. Close it."""

    def __init__(
        self,
        most: int = MOST_PROCESSES,
        least_pages: int = LEAST_PAGES,
        answers_within_s: float = ANSWERS_WITHIN_S,
    ) -> None:
        self.most_questions = most * QUESTIONS_EACH
        self._most = most
        self._least_pages = least_pages
        self._answers_within_s = answers_within_s
        self._pages = self._foreseen = 0
        self._up_at = 0.0
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._started: list[ShapingProcess] = []

    def foresee(self, pages: int) -> None:
        """A list is so many pages long: what they make worth starting comes up while they are asked for."""
        with self._lock:
            self._foreseen = max(self._foreseen, pages)
            self._count(0)

    def batch_of(self, question: Question) -> Batch | None:
        """What a process makes of the pages; None where none does: they are not plain, or no process is there."""
        with self._lock:
            self._count(len(question.bodies))
        while (process := self._ready()) is None:
            if not self._are_coming_up() or self._closed.wait(0.02):
                return None
        try:
            return process.batch_of(question)
        finally:
            with self._lock:
                process.questions_count -= 1

    def _ready(self) -> ShapingProcess | None:
        """The one with the fewest questions, one more counted to it; None where none is ready."""
        with self._lock:
            ready = [process for process in self._started if process.is_ready()]
            if not ready:
                return None
            process = min(ready, key=lambda one: one.questions_count)
            process.questions_count += 1
            return process

    def _are_coming_up(self) -> bool:
        is_any_left = len(self._started) == self._most and not all(process.is_over for process in self._started)
        return is_any_left and time.monotonic() < self._up_at

    def _count(self, pages: int) -> None:
        self._pages += pages
        enough_for = max(self._pages, self._foreseen) // self._least_pages
        while not self._closed.is_set() and len(self._started) < min(self._most, enough_for):
            self._started.append(ShapingProcess(self._answers_within_s))
            self._up_at = time.monotonic() + COME_UP_WITHIN_S

    def close(self) -> None:
        """End them, and whoever waits for them."""
        self._closed.set()
        with self._lock:
            started = list(self._started)
        for process in started:
            process.close()


class ShapingProcess:
    """One process. Several threads may ask it; it works on one question while the next is on its way. `questions_count`: for whoever shares them out."""

    def __init__(self, answers_within_s: float) -> None:
        self._answers_within_s = answers_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: BinaryIO | None = None
        self._is_up = self.is_over = False
        self._asking = threading.Lock()
        self._answering = threading.Condition()
        self._asked = self._answered = 0
        self.questions_count = 0
        try:
            self._start()
        except OSError as error:
            log.warning("No shaping process could be started (%s); pages are shaped without it.", error)
            self.is_over = True

    def batch_of(self, question: Question) -> Batch | None:
        """What the process makes of the pages; None where it makes nothing of them: they are not plain, or it is not there."""
        try:
            with self._asking:
                if self.is_over:
                    return None
                number, self._asked = self._asked, self._asked + 1
                with self._watched():
                    _send(_open(self._process.stdin if self._process else None), question)
            with self._answering:  # answers come in the order of the questions
                self._answering.wait_for(lambda: self.is_over or self._answered == number)
                if self._answered != number:
                    return None
                with self._watched():
                    answer = pickle.load(_open(self._answers))  # noqa: S301  our own process
                self._answered += 1
                self._answering.notify_all()
        except _ENDED as error:
            self._done_without(error)
            return None
        except BaseException:
            self.close()  # an answer that nobody took would be the next one's
            raise
        return answer.unpacked() if isinstance(answer, Answer) else None

    def is_ready(self) -> bool:
        """Whether it may be asked: it has come up, and has not ended since. Nobody waits for that."""
        if not self._is_up and not self.is_over:
            try:
                answers = _open(self._answers)
                if select.select([answers], [], [], 0)[0]:
                    self._is_up = pickle.load(answers) == READY  # noqa: S301  our own process
            except _ENDED as error:
                self._done_without(error)
        return self._is_up and not self.is_over

    def _done_without(self, error: Exception) -> None:
        if not self.is_over:
            log.warning("A shaping process ended (%s); pages are shaped without it from now on.", error)
        self.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """The process is killed where the `with` takes too long, and with it what waits for it ends."""
        process = self._process
        if process is None:
            raise OSError("it was closed")
        timer = threading.Timer(self._answers_within_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _start(self) -> None:
        # Answers have a pipe of their own: whatever is printed there, by a library or by what this Python runs at its start, is for people.
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "rb")
        try:
            # By the interpreter that runs this, with what it can import.
            self._process = process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, "-c", _PROGRAM.format(answers=writing)],
                stdin=subprocess.PIPE,
                stdout=2,
                pass_fds=(writing,),
                process_group=0,  # a Ctrl-C is for the process that asks, and its end is this one's
                env=_environment(),
            )
        finally:
            os.close(writing)
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux: fewer hand-overs for a page
            for pipe in (process.stdin, self._answers):
                with suppress(OSError):  # a user may have no more room for pipes; then there are more hand-overs
                    fcntl.fcntl(_open(pipe), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def close(self) -> None:
        """End it, and whoever waits for it."""
        self.is_over = True
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing that anybody could miss, and who reads from it now reads its end
            process.wait()
        with self._answering:
            self._answering.notify_all()
        for pipe in (process.stdin if process else None, self._answers):
            if pipe is not None:
                with suppress(OSError):  # what was not sent any more has nobody to read it
                    pipe.close()


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("it was closed")
    return pipe


def _environment() -> dict[str, str]:
    """This process's environment with what it can import, and without what the other has no use for: the API client's secret."""
    found = {name: value for name, value in os.environ.items() if not name.upper().startswith("APPOINTEDD_")}
    return found | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}


def _send(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe, protocol=5)
    pipe.flush()


def serve(answers: int) -> None:
    """The other side: answers questions from standard input until that ends. `answers`: number of the file that they are written to."""
    # Decoded pages end with their last reference; see `walker`.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with suppress(BrokenPipeError), os.fdopen(answers, "wb") as pipe:  # nobody reads any more, not even the rest of it
        _serve(sys.stdin.buffer, pipe, lambda question: normalise_pages(**vars(question)))


def _serve(questions: BinaryIO, answers: BinaryIO, shape: Callable[[Question], Batch]) -> None:
    try:
        _send(answers, READY)
        while True:
            question = pickle.load(questions)  # noqa: S301  from the process that started this one
            answer: Answer | None = None
            try:
                answer = Answer.of(shape(question))
            except Exception as error:  # noqa: BLE001  who asked shapes these pages again, and meets whatever is wrong with them there
                log.debug("Not shaped here: %s", type(error).__name__)
            _send(answers, answer)
    except EOFError:
        return
