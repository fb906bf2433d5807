"""How a step of a run ends, written down in the run's row however that comes about.

What lives here: telling what ended a step early, and where that can be written. What does not: what is written of a good end (`run`, `sync`, `commands`),
rows of runs that were killed (`resources.runs`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from resources.errors import ProductError, WarehouseError
from resources.warehouse import Warehouse, Writer

log = logging.getLogger(__name__)
# A process that is told to end has seconds, not the hours that a writer may wait.
NOTE_WAIT_S = 2.0


@contextmanager
def noted_end(
    warehouse: Warehouse, purpose: str, run_id: str, early: str, end: Callable[[Writer, Sequence[str]], None]
) -> Iterator[Writer]:
    """The writer for one step of a run. However the step ends, the run's row says so: by `end`, which writes it.

    What ends the step early (a signal, a full disk, a bug) is raised on, and given to `end` as a problem: a sentence that begins with `early`.
    """
    untold = None
    try:
        with warehouse.writer(purpose) as writer:
            try:
                yield writer
            except BaseException as error:
                untold = early + ended_by(error)
                if writer.is_open:  # not while it gives way to another run, nor where the file must be opened again
                    try:
                        end(writer, [untold])
                        untold = None
                    except WarehouseError as second:
                        log.debug("The end of run %s is tried once more: %s", run_id, second)
                raise
            end(writer, ())
    finally:
        if untold:
            note_end(warehouse, run_id, [untold])


def note_end(warehouse: Warehouse, run_id: str, problems: Sequence[str]) -> None:
    """Write down what ended a run, where that can be done at once."""
    _note(warehouse, run_id, lambda _: problems)


def note_end_of_publishing(warehouse: Warehouse, run_id: str, error: BaseException) -> None:
    """Write down what ended a publishing early, by how far it had come; nothing where that the run is over is noted, and only the file was put in order.

    Both files are asked, since a signal is raised when the rename or the commit in which it came is done.
    """

    def problems(writer: Writer) -> Sequence[str] | None:
        if writer.is_published_by(run_id):
            return None
        published = warehouse.published_path
        if warehouse.is_published_by(run_id):
            told = f"{published} is new and complete, but the working file did not note that the run is over"
        else:
            told = f"publishing {published} did not end"
        return [f"{told}: {ended_by(error)}"]

    _note(warehouse, run_id, problems)


def _note(warehouse: Warehouse, run_id: str, problems: Callable[[Writer], Sequence[str] | None]) -> None:
    try:
        with warehouse.writer(f"noting what ended run {run_id}", wait_s=NOTE_WAIT_S) as writer:
            found = problems(writer)
            if found is not None:
                writer.end_run(run_id, found, [])
    except WarehouseError as error:
        # The first error is the one to tell; a row that still stands as running is ended by the next run.
        log.warning("The end of run %s could not be written down: %s", run_id, error)


def ended_by(error: BaseException) -> str:
    """What ended something, for a sentence: the product's own words, or the kind of what stopped it."""
    # DuckDB turns a signal during a query into a RuntimeError.
    stop = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    # By its name, so that the command line loads no Dagster.
    if type(stop).__name__ == "DagsterExecutionInterruptedError":
        return "it was told to end, by Terminate in Dagster or by a signal"
    return str(stop) if isinstance(stop, ProductError) else f"stopped by {type(stop).__name__}"
