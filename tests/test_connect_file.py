"""The file that a first contact writes: where it may lie, what of it must stay as it was, and forms of TOML that only a person writes.

What lives here: the file. What does not: what is found out (`test_connect`), whose line is whose in plain forms (`test_connect_decisions`).
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.connect.contact import Contact, make_contact
from pipelines.connect.findings import Line
from pipelines.connect.override import lay_over
from resources.contract import contract_values, load_contract
from resources.errors import ContractError
from tests.emulator import Emulator, Naming, Switches, World
from tests.equality import settings_for
from tests.test_connect import cli, environment

DEFAULTS = contract_values()
FOUND = [
    Line(("streams", "bookings", "path"), "appointments", "answered"),
    Line(("streams", "bookings", "types"), ["appointment"], "seen"),
    Line(("streams", "bookings", "columns", "start_at"), ["starts_at"], "plausible"),
    Line(("streams", "customers", "columns", "email"), ["mail"], "plausible"),
    Line(("abilities", "filters"), False, "not proven"),
    Line(("parameters", "page_size"), "page[limit]", "2 came"),
]


@pytest.fixture(scope="module")
def api() -> Iterator[Emulator]:
    """A small API in which one line differs from the defaults."""
    world = World(seed=5, accounts=1, customers=4, bookings=4, events=0, years=1)
    with Emulator(world, Switches(naming=Naming(paths={"bookings": "appointments"}))) as running:
        yield running


def connect(api: Emulator, path: Path) -> Contact:
    return make_contact(settings_for(api, path.parent), None, path, is_dry_run=False)


# ---- where it lies -----------------------------------------------------------------------------------------------------------


def test_a_symbolic_link_is_written_through_and_the_mode_stays(api: Emulator, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    true_file, link = kept / "true.toml", tmp_path / "own.toml"
    true_file.write_text("# mine\n")
    true_file.chmod(0o600)
    link.symlink_to(Path("kept") / "true.toml")
    done = connect(api, link)
    assert (done.is_written, done.path) == (True, link)
    assert link.is_symlink()
    assert true_file.read_text().startswith("# mine\n")
    assert load_contract(link).streams["bookings"].path == "appointments"
    assert stat.S_IMODE(true_file.stat().st_mode) == 0o600
    assert [p.name for p in kept.iterdir()] == ["true.toml"]
    true_file.write_text("# mine\n")
    true_file.chmod(0o666)  # more than the umask gives
    assert connect(api, link).is_written
    assert stat.S_IMODE(true_file.stat().st_mode) == 0o666


def test_a_link_to_a_file_that_is_not_there_yet_makes_it_there(api: Emulator, tmp_path: Path) -> None:
    link = tmp_path / "own.toml"
    link.symlink_to(tmp_path / "true.toml")
    assert connect(api, link).is_first
    assert link.is_symlink()
    assert load_contract(tmp_path / "true.toml").streams["bookings"].path == "appointments"


def test_windows_line_ends_and_the_byte_order_mark_stay(api: Emulator, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    before = '\ufeff# mine\r\n[statuses.booking]\r\nlate = ["""\r\nTwo\r\nlines"""]\r\n'.encode()
    own.write_bytes(before)
    connect(api, own)
    after = own.read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == after.count(b"\r\n") > before.count(b"\n")
    assert load_contract(own).streams["bookings"].path == "appointments"
    assert not connect(api, own).is_written
    assert own.read_bytes() == after


def test_mixed_line_ends_stay_line_by_line(api: Emulator, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_bytes(b"# one\r\n# two\n[parameters]\r\nsort = 'sort'\r\n")
    connect(api, own)
    assert own.read_bytes().startswith(b"# one\r\n# two\n[parameters]\r\nsort = 'sort'\r\n")


@pytest.mark.parametrize(
    "name", ["folder", "missing/own.toml", "pipe", "circle.toml", "read-only.toml", "shut/own.toml"]
)
def test_a_place_where_nothing_can_be_written_is_a_sentence_and_exit_code_2(
    api: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle.toml").symlink_to(tmp_path / "circle.toml")
    (tmp_path / "read-only.toml").write_text("")
    (tmp_path / "read-only.toml").chmod(0o444)
    (tmp_path / "shut").mkdir()
    # root may write everywhere, so what the system would say to anybody else is said by the test
    may = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: "shut" not in str(p) and may(p, mode))
    api.reset_log()
    path = tmp_path / name
    code, out = cli(environment(api, tmp_path), "connect", "--output", str(path))
    assert code == 2
    assert str(path) in out or (str(path.parent) in out and path.name in out)
    assert {
        "folder": "is a folder; name a file",
        "read-only.toml": "is read-only",
        "shut/own.toml": "is read-only",
    }.get(name, "name") in out
    assert api.requests == []
    if name == "folder":
        code, out = cli(environment(api, tmp_path, APPOINTEDD_CONTRACT=str(path)), "connect")
        assert (code, "is a folder; name a file in APPOINTEDD_CONTRACT" in out) == (2, True)
    if name == "read-only.toml":
        assert cli(environment(api, tmp_path), "connect", "--output", str(path), "--dry-run")[0] == 0


def test_a_disk_that_fails_leaves_the_file_as_it_was(
    api: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.toml"
    own.write_text("# mine\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out = cli(environment(api, tmp_path), "connect")
    assert code == 2
    assert f"{own} cannot be written (No space left on device)" in out
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("own.toml", "# mine\n")]


# ---- forms of TOML -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "streams = 3\n",
        '[streams]\nbookings = "x"\n',
        '[[streams]]\npath = "x"\n',
        '[[streams.bookings]]\npath = "x"\n',
        '[streams.bookings]\ncolumns = ["x"]\n',
        "abilities = true\n",
    ],
)
def test_what_is_no_table_is_told_with_file_key_and_cure(api: Emulator, tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    api.reset_log()
    code, out = cli(environment(api, tmp_path), "connect")
    key = "abilities" if "abilities" in text else "streams"
    assert code == 2
    assert f"{own}: {key}" in out
    assert f"write its keys under [{key}" in out
    assert api.requests == []
    assert own.read_text() == text
    with pytest.raises(ContractError, match=r"must be a table: write its keys under \["):
        lay_over(text, FOUND, DEFAULTS)


def test_a_table_in_braces_that_is_in_the_way_is_told(api: Emulator, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = "streams = { events = { path = 'events' } }\n"
    own.write_text(text)
    code, out = cli(environment(api, tmp_path), "connect")
    assert (code, own.read_text()) == (2, text)
    assert f"{own}: The line streams." in out
    assert "cannot be put into this file; write streams as a table of its own, [streams]." in out


DOTTED = [
    'streams.bookings.path = "x"\n',
    'streams.bookings.path = "x"\nstreams.bookings.columns.end_at = ["q"]\n',
    '# top\nstreams.bookings.path = "x" # told\nabilities.sort = true\n\n# customers\n[streams.customers]\npath = "c"\n',
    '[streams]\nbookings.path = "x"\n',
    '[streams]\nbookings.path = "x"\nbookings.columns.end_at = ["q"]\n[parameters]\nsort = "s"\n',
    '[streams.bookings]\npath = "x"\ncolumns.end_at = [\n"q",\n]\n',
    '["streams" . bookings]\n"path" = "x"\n',
    '[streams.bookings.columns]\nend_at = ["q"]\n[parameters]\nsort = "s"\n[streams.bookings]\npath = "x"\n',
]


@pytest.mark.parametrize("text", DOTTED)
def test_keys_with_dots_are_a_persons_edit_like_any_other(text: str) -> None:
    result = lay_over(text, FOUND, DEFAULTS)
    assert [(d.key, d.own) for d in result.disagreements] == [("streams.bookings.path", "x")]
    assert [one for one in text.splitlines() if one not in result.text.splitlines()] == []
    wanted, values = tomllib.loads(text), tomllib.loads(result.text)
    for line in FOUND[1:]:
        holder = wanted
        for name in line.key[:-1]:
            holder = holder.setdefault(name, {})
        holder[line.key[-1]] = line.value
    assert values == wanted
    again = lay_over(result.text, FOUND, DEFAULTS)
    assert (again.text, again.changes) == (result.text, ())
    # What connect wrote it may replace and take away, there too.
    later = [
        Line(("streams", "bookings", "types"), ["slot"], "seen"),
        Line(("streams", "customers", "columns", "email"), DEFAULTS["streams"]["customers"]["columns"]["email"], "now"),
    ]
    last = lay_over(result.text, later, DEFAULTS)
    assert len(last.changes) == 2
    wanted["streams"]["bookings"]["types"] = ["slot"]
    del wanted["streams"]["customers"]["columns"]["email"]
    values = tomllib.loads(last.text)
    values["streams"]["customers"].setdefault("columns", {})
    assert values == wanted


@settings(max_examples=25, derandomize=True, deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1), why=st.text(st.characters(codec="utf-8")))
def test_any_name_is_valid_toml_and_read_back_as_it_is(name: str, why: str) -> None:
    lines: list[Line] = [
        Line(("streams", "bookings", "columns", "start_at"), [name, "plain"], why),
        Line(("streams", "bookings", "queries"), [{}, {name: name}], why),
        Line(("parameters", "sort"), name, why),
    ]
    result = lay_over(None, lines, DEFAULTS)
    values: dict[str, Any] = tomllib.loads(result.text)
    assert values["streams"]["bookings"] == {"columns": {"start_at": [name, "plain"]}, "queries": [{}, {name: name}]}
    assert values.get("parameters", {"sort": "sort"}) == {"sort": name}
    assert lay_over(result.text, lines, DEFAULTS).changes == ()
