"""One contact from settings to file: what was found is laid over the person's own file and written, or only shown.

What lives here: reading and writing that file. What does not: finding out (`learn`), laying over (`override`), showing (`report`).
"""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pipelines.connect.findings import Learned
from pipelines.connect.learn import learn
from pipelines.connect.override import Override, lay_over, past_of
from resources.contract import contract_values, load_contract
from resources.errors import ContractError
from resources.openapi import read_description
from resources.settings import LOCAL_CONTRACT, PROJECT_FOLDER, Settings

_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Contact:
    """What came of a contact. `path` is the override; `is_used`: the sync reads that very file; `is_first`: there was none before."""

    learned: Learned
    override: Override
    path: Path
    is_written: bool
    is_used: bool
    is_first: bool

    @property
    def exit_code(self) -> int:
        """0: a sync can run; 1: a person must fill in a line."""
        return 1 if self.learned.needs else 0


@dataclass(frozen=True)
class _File:
    """A file as it lies there: its text with plain line ends, and what else must stay. `mode`, `owner`: of the file; None where there is none yet."""

    text: str | None
    has_mark: bool
    line_end: str
    mode: int | None
    owner: tuple[int, int] | None


def make_contact(settings: Settings, openapi: str | None, output: Path | None, *, is_dry_run: bool) -> Contact:
    """Learn, lay over, write. Raises `UsageError` for settings and files, `ApiError` where the API answers nothing usable."""
    used = settings.appointedd_contract or PROJECT_FOLDER / LOCAL_CONTRACT
    path = (output or used).absolute()
    target = _target(path, "--output" if output else "APPOINTEDD_CONTRACT")
    if not is_dry_run:
        _must_be_writable(path, target)  # before anything is asked: what was learned would be lost
    is_first = not target.is_file()
    contract = load_contract(None if is_first else path)
    description = read_description(openapi) if openapi else None
    learned = learn(settings, contract, description, past_of(_read(target).text))
    there = _read(target)
    try:
        defaults = contract_values(None if is_first else path, is_overlaid=False)
        override = lay_over(there.text, learned.lines, defaults)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    # Where no list was found there is nothing to say of this API.
    is_written = not is_dry_run and override.text != there.text and learned.lists_count > 0
    if is_written:
        _write(path, target, override.text, there)
    return Contact(learned, override, path, is_written, path == used.absolute(), is_first)


def _target(path: Path, named_by: str) -> Path:
    """The file itself, where `path` is a symbolic link to it, which is written through; raises `ContractError` where no file can be there."""
    try:
        target = path.resolve()
        kind = target.stat().st_mode
    except FileNotFoundError:
        kind = None
    except (OSError, RuntimeError) as error:  # a link that leads in a circle is the one or the other
        raise ContractError(f"{path} cannot be followed ({_why(error)}); name a file in {named_by}.") from None
    if kind is not None and stat.S_ISDIR(kind):
        raise ContractError(f"{path} is a folder; name a file in {named_by}, such as {path / LOCAL_CONTRACT}.")
    if kind is not None and not stat.S_ISREG(kind):
        raise ContractError(f"{path} is no plain file; name one in {named_by}.")
    if not target.parent.is_dir():
        raise ContractError(
            f"{target.parent} is not a folder, so {target.name} cannot be written there; make it, or name another file in {named_by}."
        )
    return target


def _must_be_writable(path: Path, target: Path) -> None:
    """Renaming over a file asks only the folder, so a file that somebody made read-only is looked at by itself."""
    cure = "allow it, name another file in --output, or only look with --dry-run"
    if target.exists() and not (os.access(target, os.W_OK) and target.stat().st_mode & _ANY_WRITE):
        raise ContractError(f"{path} is read-only, so nothing can be written into it; {cure}.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ContractError(f"{target.parent} is read-only, so {target.name} cannot be written there; {cure}.")


def _read(target: Path) -> _File:
    try:
        content = target.read_bytes()
        found = target.stat()
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        return _File(None, False, "\n", None, None)
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{target} cannot be read: {error}.") from None
    is_windows = "\r\n" in text and text.count("\r\n") == text.count("\n")
    return _File(
        # Where both kinds of line end are mixed, each line keeps its own.
        text.replace("\r\n", "\n") if is_windows else text,
        content.startswith(codecs.BOM_UTF8),
        "\r\n" if is_windows else "\n",
        stat.S_IMODE(found.st_mode),
        (found.st_uid, found.st_gid),
    )


def _write(path: Path, target: Path, text: str, there: _File) -> None:
    """Written beside the file, loaded as a sync would load it, and renamed over it: a broken override never takes a good one's place.

    Mode, owner, line ends and byte order mark stay as they are.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.new")
    if there.line_end != "\n":
        text = text.replace("\n", there.line_end)
    try:
        # Nobody may read more of the draft than of the file.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, there.mode or 0o666), "wb") as file:
            if there.mode is not None and there.owner is not None:
                made = draft.stat()
                if (made.st_uid, made.st_gid) != there.owner:
                    os.chown(draft, *there.owner)
                draft.chmod(there.mode)
            file.write((codecs.BOM_UTF8 if there.has_mark else b"") + text.encode())
            file.flush()
            os.fsync(file.fileno())
        load_contract(draft)
        draft.replace(target)
    except OSError as error:
        raise ContractError(
            f"{path} cannot be written ({_why(error)}), and is as it was; mend that, or name another file in --output."
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
