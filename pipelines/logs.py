"""The log of a command, on standard error.

What lives here: which lines are shown, and how. What does not: what is logged (each module), what a command prints (`console`).
"""

from __future__ import annotations

import logging
import sys

from resources.errors import UsageError, in_one_line

OWN_PACKAGES = ("pipelines", "resources")


def log_to_stderr(*, is_quiet: bool, is_verbose: bool) -> None:
    """Our own log lines on standard error, and of others only warnings; coloured where a person watches."""
    if is_quiet and is_verbose:
        raise UsageError("--quiet and --verbose contradict each other.")
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
        handler.setFormatter(_InOneLine("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_InOneLine("%(asctime)s %(levelname)s %(message)s"))
    handler.set_name(__name__)
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == __name__]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OWN_PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG if is_verbose else logging.WARNING if is_quiet else logging.INFO)
    for name in ("httpx", "httpcore"):  # they would log every request
        logging.getLogger(name).setLevel(logging.WARNING)


class _InOneLine(logging.Formatter):
    """Log lines quote the API's texts, which must not steer a terminal or begin a line of their own. A traceback is no part of the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return in_one_line(super().formatMessage(record))
