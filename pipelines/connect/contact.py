"""One contact from settings to file: what was found is laid over the person's own file and written, or only shown.

What lives here: reading and writing that file. What does not: finding out (`learn`), laying over (`override`), showing (`report`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.connect.findings import Learned
from pipelines.connect.learn import learn
from pipelines.connect.override import Override, lay_over
from resources.contract import contract_values, load_contract
from resources.errors import ContractError
from resources.openapi import read_description
from resources.settings import LOCAL_CONTRACT, PROJECT_FOLDER, Settings


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


def make_contact(settings: Settings, openapi: str | None, output: Path | None, *, is_dry_run: bool) -> Contact:
    """Learn, lay over, write. Raises `UsageError` for settings and files, `ApiError` where the API answers nothing usable."""
    used = settings.appointedd_contract or PROJECT_FOLDER / LOCAL_CONTRACT
    path = (output or used).absolute()
    is_first = not path.is_file()
    contract = load_contract(None if is_first else path)
    if not path.parent.is_dir():
        raise ContractError(
            f"{path.parent} is not a folder, so {path.name} cannot be written there; make it, or name another --output."
        )
    description = read_description(openapi) if openapi else None
    learned = learn(settings, contract, description)
    existing = None if is_first else path.read_text(encoding="utf-8-sig")
    override = lay_over(existing, learned.lines, contract_values())
    is_written = not is_dry_run and override.text != existing
    if is_written:
        _write(path, override.text)
    return Contact(learned, override, path, is_written, path == used.absolute(), is_first)


def _write(path: Path, text: str) -> None:
    """Written beside the file, loaded as a sync would load it, and renamed over it: a broken override never takes a good one's place."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        load_contract(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
