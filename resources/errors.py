"""Every error the product raises on purpose, sorted by what the caller should do.

    ProductError                 one sentence that names the culprit and the cure
    ├── UsageError               stop, exit code 2: a setting, the contract or a command is wrong
    │   ├── SettingsError
    │   └── ContractError
    ├── ApiError                 exit code 1: something may be missing
    │   ├── ClientRefusedError   end this API client's part; the others go on
    │   └── SliceError           end this slice; others go on
    │       ├── AbilityRefusedError   drop the named ability and plan again
    │       ├── DeadCursorError       start this slice again
    │       ├── GaveUpError           the retries are used up
    │       ├── BrokenAnswerError     the answer is not what JSON:API promises
    │       └── UnprovenEndError      the walk ended and nothing shows that it is complete
    └── WarehouseError           exit code 1: stop, the file is not what it should be
        ├── PublishedUnrecordedError  the published file is new, and the working file could not note it
        ├── LeaseHeldError       another process writes
        └── PublishBlockedError  a check before publishing failed; the published file was left as it is

Nothing here carries a secret: messages are built from names, status codes and the API's own error texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Control characters, line and paragraph separators, characters that turn the direction of writing, and halves of characters, which no output takes. Joiners
# and spaces that do not break are let through: they are parts of names.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class ProductError(Exception):
    """The root: its text is a sentence for a person."""


class UsageError(ProductError):
    """The command cannot start as it was asked for (exit code 2)."""


class SettingsError(UsageError):
    """A setting is missing or wrong."""


class ContractError(UsageError):
    """`contract.toml`, or the file that overrides it, is wrong."""


class ApiError(ProductError):
    """The API, or the way to it, stopped something from being read (exit code 1)."""


class ClientRefusedError(ApiError):
    """The API refuses this API client, or one of its requests with any token; repeating cannot help (RFC 6749 section 5.2, RFC 6750 section 3.1)."""


class SliceError(ApiError):
    """One slice could not be read to its end."""


class AbilityRefusedError(SliceError):
    """The server refused an optional query parameter on a first page, or lost a filter in a next link.

    `ability` is the name of the contract's switch: page_size, filters, upper_bound, account_filter, sort or include.
    """

    def __init__(self, message: str, *, stream: str, ability: str) -> None:
        super().__init__(message)
        self.stream = stream
        self.ability = ability


class DeadCursorError(SliceError):
    """A later page of a walk was refused: the server forgot its own cursor."""


class GaveUpError(SliceError):
    """A request failed as often as it may be tried, or in a way that repeating does not mend. `status` is the answer's, if there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BrokenAnswerError(SliceError):
    """An answer that breaks JSON:API in a way that repeating does not mend."""


class UnprovenEndError(SliceError):
    """A walk that came to an end without proof of being complete."""


class WarehouseError(ProductError):
    """The warehouse file cannot be used, or holds what it must not hold (exit code 1)."""


class PublishedUnrecordedError(WarehouseError):
    """The published file is new, and the working file could not note it."""


class LeaseHeldError(WarehouseError):
    """Another process holds the lease on the warehouse."""


class PublishBlockedError(WarehouseError):
    """A blocking check found rows; the published file was not replaced."""


def must_exist(path: Path) -> None:
    """Raise where a file that the first sync makes is not there yet."""
    if not path.exists():
        raise WarehouseError(f"{path} does not exist yet. The first sync makes it: appointedd-warehouse sync")


@contextmanager
def writable(setting: str, path: Path) -> Iterator[None]:
    """In a `with`: what the system refuses to write becomes a sentence that names the setting which led there."""
    try:
        yield
    except OSError as error:
        raise WarehouseError(
            f"{setting}: {path} cannot be written ({error.filename or path}: {error.strerror}). Give it rights and room, or name another place; "
            f"appointedd-warehouse check looks at both."
        ) from error


def in_one_line(text: str) -> str:
    """A sentence in which no name or word of the API can steer a terminal or a log: without line ends and the like."""
    return _STEERING.sub("�", text)


def told(api_client: str, error: ApiError) -> str:
    """An error of the API as a sentence that names the API client it is about; some do so by themselves."""
    text = str(error)
    return text if text.startswith("API client") else f"API client {api_client!r}: {text}"
