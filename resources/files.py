"""The warehouse's files as files: what lies beside a DuckDB file, who may read it, whether its disk has room.

What lives here: paths, modes, space. What does not: anything that opens one with DuckDB (`database`), the lease (`lease`).
Errors: `SettingsError` and `WarehouseError`, with the cure.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from resources.errors import SettingsError, WarehouseError

# Where a DuckDB file says what it is.
MAGIC = slice(8, 12)
LEAST_FREE_BYTES = 64 * 1024 * 1024


def refuse_other_files(setting: str, path: Path) -> None:
    """Raise `SettingsError` where the path of a DuckDB file leads to a folder, or to a file that is none and would be lost."""
    if path.is_dir():
        raise SettingsError(f"{setting} names {path}, which is a folder. Name a file in it.")
    try:
        with path.open("rb") as file:
            beginning = file.read(MAGIC.stop)
    except OSError:
        return  # not there yet, or not to be read: whoever opens it for work says so
    if beginning and beginning[MAGIC] != b"DUCK":
        raise SettingsError(f"{setting} names {path}, which is no DuckDB file and was left alone. Name another one.")


def log_of(path: Path) -> Path:
    """Where DuckDB keeps the log of a file's transactions."""
    return path.with_name(path.name + ".wal")


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes the place of the one at a path."""
    return path.with_name(f".{path.name}.new")


def copy_before(path: Path, number: str) -> Path:
    """Where a copy of a file as it was before a migration is kept."""
    return path.with_name(f"{path.name}.before-{number}")


def copies_of(path: Path) -> list[Path]:
    """The copies that were kept of a file."""
    beginning = copy_before(path, "").name
    return sorted(one for one in path.parent.glob("*") if one.name.startswith(beginning))


def remove_leftovers(path: Path) -> None:
    """Remove the rows that DuckDB had spilled beside a file when its process was killed, and a file half written anew. The caller holds the lease."""
    path = path.resolve()  # DuckDB, too, works beside the file that a symbolic link leads to
    draft = draft_of(path)
    for left in (draft, log_of(draft)):
        left.unlink(missing_ok=True)
    for one in (path, draft):
        for spilled in one.with_name(f"{one.name}.tmp").glob("duckdb_temp_*"):
            spilled.unlink()


def keep_private() -> None:
    """From here on, what this process creates is for its owner alone (0600), unless it says otherwise.

    DuckDB makes the log of a transaction (`.wal`) and what it spills to disk whenever it likes, with the mode that the process's umask leaves, and both
    hold personal data; whoever only reads spills, too. Setting their modes afterwards would leave them open for a moment, and for good after a kill.
    """
    os.umask(os.umask(0o077) | 0o077)


def sync_to_disk(path: Path) -> None:
    """Return when a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_space(folder: Path, needed_bytes: int) -> bool:
    """Whether a disk has room for so much, and a little more."""
    return shutil.disk_usage(folder).free >= needed_bytes + LEAST_FREE_BYTES


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise `WarehouseError` before a disk is full, rather than after."""
    if not has_space(folder, needed_bytes):
        free = shutil.disk_usage(folder).free
        raise WarehouseError(
            f"{folder} has {free // 1_000_000} MB free, and {(needed_bytes + LEAST_FREE_BYTES) // 1_000_000} MB are needed. "
            f"Make room there, or name another place in WAREHOUSE_PATH and WAREHOUSE_PUBLISHED_PATH."
        )
