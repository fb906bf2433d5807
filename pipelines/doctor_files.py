"""What `check` sees of folders, disks and files: whether they can be written, have room, are what their settings say, and are free.

What lives here: looking, and the cure for what is wrong. What does not: the API (`doctor`), repairing, writing to the warehouse.
"""

from __future__ import annotations

import fcntl
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipelines.doctor_lines import DoctorLine, failed
from resources.database import connect, count_runs_of_whole_file
from resources.errors import LeaseHeldError, UsageError, WarehouseError
from resources.files import check_space, copies_of, refuse_other_files
from resources.lease import lease
from resources.settings import Settings, env_file
from resources.warehouse import PART_SPACE_BYTES


def examine_files(settings: Settings) -> Iterator[DoctorLine]:
    """The lines of folders, disks, files and lease."""
    yield from _open_to_all(settings)
    working, published = settings.warehouse_path, settings.warehouse_published_path
    size = working.stat().st_size if working.is_file() else 0
    # Where symbolic links lead is where a sync writes.
    own, shared = working.resolve(), published.resolve()
    yield _guarded("warehouse folder", lambda: _writable(own.parent))
    yield _guarded("warehouse disk", lambda: _free(own.parent, PART_SPACE_BYTES))
    yield _guarded("published folder", lambda: _writable(shared.parent))
    yield _guarded("published disk", lambda: _free(shared.parent, size))
    if own == shared:
        yield DoctorLine(
            "files",
            "failed",
            "WAREHOUSE_PATH and WAREHOUSE_PUBLISHED_PATH name the same file. Give the published file a name of its own: whoever opens it would lock "
            "the sync out.",
            2,
        )
    try:
        refuse_other_files("WAREHOUSE_PATH", working)
        refuse_other_files("WAREHOUSE_PUBLISHED_PATH", published)
    except UsageError as error:
        yield failed("files", error)
        return
    held = _lease(working)
    yield held
    if working.exists() and held.state == "ok":
        try:
            with lease(working, "check", wait_s=0):  # whoever opens the file is in the way of who writes it
                yield _guarded("warehouse file", partial(_whole, working))
        except LeaseHeldError as error:  # a sync has begun meanwhile
            yield DoctorLine("warehouse file", "warning", f"not looked at: {error}")
    if published.exists():
        yield _guarded("published file", partial(_whole, published))


def _open_to_all(settings: Settings) -> Iterator[DoctorLine]:
    """The settings and copies of the warehouse that everybody on the machine may read: the product writes neither's mode again."""
    found = [
        one for one in (env_file(), *copies_of(settings.warehouse_path)) if one and one.stat().st_mode & stat.S_IROTH
    ]
    if found:
        names = " ".join(map(str, found))
        told = f"every user of this machine may read {names}, and secrets or personal data stand there. Run: chmod 600 {names}"
        yield DoctorLine("who may read", "warning", told)


def _guarded(name: str, look: Callable[[], str]) -> DoctorLine:
    """A line from a look at a folder; what the system refuses is a failed line with the setting that names another place."""
    try:
        return DoctorLine(name, "ok", look())
    except WarehouseError as error:
        return failed(name, error)
    except OSError as error:
        return _refused(name, error)


def _refused(name: str, error: OSError) -> DoctorLine:
    setting = "WAREHOUSE_PUBLISHED_PATH" if name.startswith("published") else "WAREHOUSE_PATH"
    told = f"{error.filename or ''}: {error.strerror}. Make it writable, or set {setting}."
    return DoctorLine(name, "failed", told, 1)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists; the sync makes the rest."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _writable(folder: Path) -> str:
    place = _existing(folder)
    if not place.is_dir():
        raise NotADirectoryError(0, "is not a folder", str(place))
    with tempfile.TemporaryFile(dir=place):  # trying is the only proof: rights, quotas and read-only disks
        pass
    return f"{folder} can be written" if place == folder else f"{folder} will be made in {place}"


def _free(folder: Path, needed: int) -> str:
    place = _existing(folder)
    check_space(place, needed)
    return f"{shutil.disk_usage(place).free / 1e9:,.1f} GB free"


def _whole(path: Path) -> str:
    return f"{path} opens, nothing of it is missing; it knows of {count_runs_of_whole_file(path)} runs"


def _lease(working: Path) -> DoctorLine:
    """Whether a sync could start at once; the file is opened too, since another program may hold it."""
    if not working.exists():
        return DoctorLine("lease", "ok", f"{working} does not exist yet; the first sync makes it")
    try:
        with lease(working, "check", wait_s=0):
            connect(working, read_only=True).close()
            with working.open("r+b") as file:
                # DuckDB asks for this lock too; one that only reads is in the way of whoever writes.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except LeaseHeldError as error:
        return DoctorLine("lease", "warning", str(error))
    except WarehouseError as error:
        return failed("lease", error)
    except BlockingIOError:
        told = f"{working} is open in another program, so a sync could not write it. Close it there; for reading, open the published file"
        return DoctorLine("lease", "warning", f"{told} read-only, which no run locks.")
    except OSError as error:
        return _refused("lease", error)
    return DoctorLine("lease", "ok", f"nobody writes {working}")
