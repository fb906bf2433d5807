"""The command line, `appointedd-warehouse`: options in, exit codes and output out; everything else is called.

What lives here: commands, their options, which error gives which exit code. What does not: work (`commands`, `preview`, `status`, `doctor`, `shell`), its
look (`report`, `plan_report`, `status_report`), which log lines are shown (`logs`). Dagster is never imported; what is slow to import is imported by the
command that needs it.

Exit codes: 0 done, also with warnings; 1 a row, page or account may be missing; 2 wrong use, settings or contract; 130 stopped by Ctrl-C, 143 by
SIGTERM.
Logs and refusals go to standard error, tables and JSON to standard output.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
import typer.core

from pipelines.logs import log_to_stderr
from resources.errors import ProductError, UsageError, in_one_line

if TYPE_CHECKING:
    from pipelines.console import Json
    from pipelines.plan import Request
    from resources.contract import Contract
    from resources.settings import Settings

NAME = "appointedd-warehouse"
P = ParamSpec("P")
log = logging.getLogger(__name__)


class SigTerm(KeyboardInterrupt):
    """SIGTERM came: raised in the main thread wherever it is, as Ctrl-C is. The run's row says "stopped by SigTerm"."""


class _Commands(typer.core.TyperGroup):
    """The commands, with the one place where an error becomes a sentence and an exit code. Anything else is a bug, and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ProductError as error:
            is_usage = isinstance(error, UsageError)  # which may be a list of settings, one a line
            _refuse(str(error) if is_usage else in_one_line(str(error)))
            raise typer.Exit(2 if is_usage else 1) from None
        except OSError as error:
            if error.filename is None:
                raise
            log.debug("Refused by the system", exc_info=True)
            _refuse(f"{error.filename}: {error.strerror}. `{NAME} check` looks at files and folders.")
            raise typer.Exit(1) from None
        except (KeyboardInterrupt, RuntimeError) as error:
            # DuckDB turns a signal during a query into a RuntimeError.
            stop = error if isinstance(error, KeyboardInterrupt) else error.__cause__
            if not isinstance(stop, KeyboardInterrupt):
                raise
            name, code = ("SIGTERM", 143) if isinstance(stop, SigTerm) else ("Ctrl-C", 130)
            _refuse(f"Stopped by {name}. Slices that were committed stay, and the next sync asks for the rest.")
            raise typer.Exit(code) from None


app = typer.Typer(
    name=NAME,
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point."""
    # A name that the terminal's encoding lacks must not end a command.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(*_: object) -> None:
    raise SigTerm


def _refuse(text: str) -> None:
    from pipelines.console import printable

    print(printable(text), file=sys.stderr)


# Options


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"{NAME} {version(NAME)}")
        raise typer.Exit


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day. Write it like 2026-03-31.") from None


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log details too.")]
Sweep = Annotated[bool, typer.Option("--sweep", help="Read everything again and look for what was deleted.")]
Streams = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        metavar="NAME",
        help="Only this stream: accounts, customers, bookings, events or one that your contract adds; can be repeated. Default: all.",
    ),
]
OF_FILE = typer.Option("--openapi", metavar="FILE", help="The vendor's OpenAPI 3 file: a path or an https address.")
OF_FIRST_DAY = typer.Option(
    "--from",
    parser=_day,
    metavar="DATE",
    help="Backfill: read what changed from this day on, in SYNC_TIME_ZONE; together with --to.",
)
OF_LAST_DAY = typer.Option("--to", parser=_day, metavar="DATE", help="Backfill: up to and including this day.")
From = Annotated[date | None, OF_FIRST_DAY]
To = Annotated[date | None, OF_LAST_DAY]


@app.callback()
def _root(
    is_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Appointedd's public API V2 in a DuckDB file. Settings come from the environment or .env; see .env.example.

    Exit codes: 0 done, also with warnings; 1 a row, page or account may be missing; 2 wrong use or settings.
    """


# Commands


@app.command(short_help="Look whether a sync can run; say what is wrong and the cure.")
def check(as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Look at settings, token, accounts, one page of each stream, clock, disk and files; say what is wrong and the cure."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    from pipelines import doctor, report
    from pipelines.console import print_json

    lines = []
    for line in doctor.examine():
        lines.append(line)
        if not as_json:
            report.show_line(line)
    if as_json:
        print_json(report.check_json(lines))
    raise typer.Exit(max(line.exit_code for line in lines))


@app.command(short_help="Learn the real API's names and write contract.local.toml.")
def connect(
    openapi: Annotated[str | None, OF_FILE] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write there instead of the contract in use (contract.local.toml)."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every finding, not only what changed since the last time.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Learn the real API's names and abilities with a few dozen GETs, and write what differs from the defaults into contract.local.toml.

    What you wrote there yourself stays. Exit codes: 0 a sync can run; 1 a line must be filled in; 2 wrong settings.
    """
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    from pipelines.connect.contact import make_contact
    from pipelines.connect.report import connect_json, show_connect
    from resources.settings import load_settings

    done = make_contact(load_settings(), openapi, output, is_dry_run=dry_run)
    _tell(as_json, connect_json, partial(show_connect, is_whole=everything or done.is_first), done)
    raise typer.Exit(done.exit_code)


@app.command("contract", short_help="Compare the contract in use with a vendor's OpenAPI file.")
def compare_contract(
    openapi: Annotated[str, OF_FILE],
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare the contract in use with a vendor's OpenAPI file: what breaks a sync, what is harmless. Asks the API nothing.

    Exit codes: 0 nothing breaks; 1 something does; 2 the file or a setting is wrong.
    """
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    settings, contract = _loaded()
    from pipelines.connect.compare import compare
    from pipelines.connect.report import contract_json, show_contract
    from resources.openapi import read_description

    description = read_description(openapi)
    found = compare(settings, contract, description)
    _tell(as_json, contract_json, show_contract, description, found)
    raise typer.Exit(1 if any(one.weight == "breaking" for one in found) else 0)


@app.command()
def sync(
    sweep: Sweep = False,
    stream: Streams = None,
    first_day: From = None,
    last_day: To = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Read what changed, commit it, check it and publish it. Waits for another sync that is under way."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    settings, contract = _loaded()
    request = _request(settings, sweep, first_day, last_day)
    from pipelines import commands, report

    done = commands.sync_once(settings, contract, request, commands.chosen_streams(contract, stream), version(NAME))
    _tell(as_json, report.sync_json, report.show_sync, done, settings.warehouse_published_path)
    raise typer.Exit(1 if done.problems else 0)


@app.command(short_help="Show what a sync would ask, in about how many requests.")
def plan(
    sweep: Sweep = False,
    stream: Streams = None,
    first_day: From = None,
    last_day: To = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a sync would ask, and about how many requests that takes. Reads the account lists, writes nothing."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    settings, contract = _loaded()
    request = _request(settings, sweep, first_day, last_day)
    from pipelines import commands
    from pipelines.plan_report import plan_json, show_plan
    from pipelines.preview import preview
    from resources.warehouse import Warehouse

    found = preview(settings, contract, Warehouse(settings), request, commands.chosen_streams(contract, stream))
    _tell(as_json, plan_json, show_plan, found)
    raise typer.Exit(1 if found.problems else 0)


@app.command(short_help="Show how complete each stream of each account is.")
def status(as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Show how complete each stream of each account is, the newest runs, and what arrived oddly."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    from pipelines.status import read_status
    from pipelines.status_report import show_status, status_json
    from resources.settings import load_settings
    from resources.warehouse import Warehouse

    found = read_status(Warehouse(load_settings()), datetime.now(UTC))
    _tell(as_json, status_json, show_status, found)


@app.command(short_help="Let the next sweep call deleted what the last one held back.")
def release(
    account: Annotated[
        str | None, typer.Argument(metavar="ACCOUNT", help="Id or slug. Without it, the accounts that wait are listed.")
    ] = None,
    stream: Streams = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let the next sweep call deleted what the last one held back, because it was too much to believe at once."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    from pipelines import commands
    from pipelines.status_report import release_json, show_release

    settings, contract = _loaded()
    brakes = commands.release(settings, account, commands.chosen_streams(contract, stream))
    _tell(as_json, release_json, show_release, brakes)


@app.command(short_help="Shape the stored records again by the present contract.")
def renormalise(
    stream: Streams = None, as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Shape the stored records again by the present contract, without calling the API; then check and publish."""
    log_to_stderr(is_quiet=quiet, is_verbose=verbose)
    settings, contract = _loaded()
    from pipelines import commands, report

    done = commands.renormalise_once(settings, contract, commands.chosen_streams(contract, stream), version(NAME))
    _tell(as_json, report.renormalise_json, report.show_renormalise, done, settings.warehouse_published_path)
    raise typer.Exit(1 if done.problems else 0)


@app.command()
def shell(
    command: Annotated[
        str | None, typer.Option("--command", "-c", metavar="SQL", help="Run this and leave, instead of a prompt.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the published file in SQL; it is opened for reading only."""
    from pipelines import report
    from pipelines import shell as sql
    from pipelines.console import print_json
    from resources.settings import load_settings

    path = load_settings().warehouse_published_path
    if command is None:
        if as_json:
            raise UsageError("--json needs a statement: appointedd-warehouse shell --json -c 'select …'")
        sql.prompt(path)
        return
    with sql.open_published(path) as connection:
        if not as_json:
            sql.show(sql.run(connection, command, sql.ROWS_SHOWN))
            return
        results = list(sql.run(connection, command))
    if len(results) != 1:
        raise UsageError(f"--json prints one result, and these are {len(results)} statements.")
    print_json(report.result_json(results[0].columns, results[0].rows))


# What several commands need


def _tell(as_json: bool, to_json: Callable[P, Json], show: Callable[P, None], *found: P.args, **more: P.kwargs) -> None:
    """What a command found: one JSON object for a program, or shown to a person."""
    from pipelines.console import print_json

    if as_json:
        print_json(to_json(*found, **more))
    else:
        show(*found, **more)


def _loaded() -> tuple[Settings, Contract]:
    from resources.contract import load_contract
    from resources.settings import load_settings

    settings = load_settings()
    return settings, load_contract(settings.appointedd_contract)


def _request(settings: Settings, is_sweep: bool, first: date | None, last: date | None) -> Request:
    """What the options ask for; refuses what does not go together, and settings without an API, before anything slow is imported."""
    settings.api_access()
    if (first is None) != (last is None):
        raise UsageError("--from and --to belong together: give the first and the last day, or neither.")
    if is_sweep and first:
        raise UsageError("--sweep reads everything; it takes no --from and --to.")
    from pipelines.commands import change_days
    from pipelines.plan import Request

    if first and last:
        return Request("backfill", change_days(first, last, settings.zone))
    return Request("sweep" if is_sweep else "nightly")
