"""The Dagster faces of the API and of the warehouse; the only module of this folder that imports Dagster, so that the command line never does.

What lives here: resources, and what the steps of one Dagster run share. What does not: what a run does with them (`pipelines`).
Neither has configuration: settings and secrets come from the environment, so no secret can stand in Dagster's configuration or storage.
"""

import atexit
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from resources.alive import living_runs, note_run
from resources.contract import Contract, load_contract
from resources.settings import Settings, load_settings
from resources.warehouse import Warehouse

T = TypeVar("T")


class AppointeddResource(dg.ConfigurableResource[Any]):
    """Appointedd's API through OAuth: where it is, who asks, in which names."""

    @property
    def settings(self) -> Settings:
        """The settings, from the environment; raises `SettingsError`."""
        return load_settings()

    @property
    def contract(self) -> Contract:
        """The contract, with the user's own laid over it; raises `ContractError`."""
        return load_contract(self.settings.appointedd_contract)


class WarehouseResource(dg.ConfigurableResource[Any]):
    """The DuckDB warehouse: read-only, or written under its lease, always closed afterwards."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Every step of every run needs this resource, so that a run is noted as alive before its first step does anything."""
        if context.run is not None and context.instance is not None:
            note_run(_runs_of(context.instance), context.run.run_id)

    def open(self) -> Warehouse:
        """The warehouse of the settings; opening a connection is a `with` of its own."""
        return Warehouse(load_settings())


def living_dagster_runs(instance: dg.DagsterInstance) -> set[str]:
    """Runs of Dagster that a process of this machine is doing."""
    return living_runs(_runs_of(instance))


def _runs_of(instance: dg.DagsterInstance) -> Path:
    # Not beside the warehouse: a run goes on with the warehouse that it began with, whatever the settings say by now.
    return Path(instance.root_directory) / "runs"


# What the steps of a run share. Dagster makes its resources anew for each step, also within one process, and the account list and the token are to be
# asked for once in a run; all steps of a run are in one process here (the in-process executor).
_opened: dict[str, tuple[ExitStack, Any]] = {}
_lock = threading.Lock()


def once(run_id: str, open_it: Callable[[], AbstractContextManager[T]]) -> T:
    """What `open_it` opens, the first time that a step of a run asks; the same again for the steps after it."""
    with _lock:
        if run_id not in _opened:
            stack = ExitStack()
            _opened[run_id] = stack, stack.enter_context(open_it())
        value: T = _opened[run_id][1]
        return value


def close_run(run_id: str) -> None:
    """Close what a run has opened; harmless where it has not."""
    with _lock:
        stack, _ = _opened.pop(run_id, (ExitStack(), None))
    stack.close()


@atexit.register
def _close_all() -> None:
    for run_id in list(_opened):
        close_run(run_id)
