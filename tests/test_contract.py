"""The contract: complete, laid over key by key, refused with the nearest right name; and held together with streams and schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.streams import BUILT_IN, DTYPES, Stream, shape_of
from resources.contract import DEFAULT_CONTRACT, load_contract
from resources.database import connect
from resources.errors import ContractError
from resources.sql_files import SQL_FOLDER

CHILD_MEMBERS = {"customers": {"custom_fields", "tags"}, "bookings": {"resources", "participants"}}


def own(folder: Path, text: str) -> Path:
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_default_loads_and_needs_nothing() -> None:
    contract = load_contract()
    assert contract.streams.keys() == {*BUILT_IN, "intent_events"}
    assert contract.oauth.client_authentication == "basic"


def test_an_override_changes_its_key_and_no_other(tmp_path: Path) -> None:
    text = """
        [parameters]
        page_size = "limit"
        [streams.bookings]
        types = ["slot"]
        queries = [{}, { "filter[status]" = "cancelled" }]
        [streams.bookings.columns]
        start_at = ["begins"]
        [statuses.participant]
        late = ["Arrived late"]
    """
    default, contract = load_contract(), load_contract(own(tmp_path, text))
    assert contract.parameters.page_size == "limit"
    assert contract.parameters.model_copy(update={"page_size": default.parameters.page_size}) == default.parameters
    bookings = contract.streams["bookings"]
    assert bookings.types == ("slot",)  # a list is replaced whole
    assert bookings.queries == ({}, {"filter[status]": "cancelled"})
    assert bookings.columns == default.streams["bookings"].columns | {"start_at": ("begins",)}
    assert bookings.path == "bookings"
    assert contract.statuses.participant == default.statuses.participant | {"late": ("Arrived late",)}
    assert contract.streams["customers"] == default.streams["customers"]
    assert contract.oauth == default.oauth


def test_an_empty_override_is_the_default(tmp_path: Path) -> None:
    assert load_contract(own(tmp_path, "")) == load_contract()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[parameter]\npage_size = 'x'", r"parameter is not a key of the contract. Did you mean parameters\?"),
        ("[known]\npage_size_valu = '50'", r"known.page_size_valu is not .* Did you mean parameters.page_size_value\?"),
        ("[parameters]\npagesize = 'x'", r"parameters.pagesize is not .* Did you mean parameters.page_size\?"),
        ("[parameters]\nzzz = 'x'", r"parameters.zzz is not .* There are: account, include"),
        ("[streams.booking]\npath = 'x'", r"Did you mean streams.bookings\?"),
        ("[streams.bookings.columns]\nstart = ['x']", r"Did you mean streams.bookings.columns.start_at\?"),
        ("[abilities]\nfilters = 'maybe'", r"abilities.filters: .*found 'maybe'"),
        ("[oauth]\nclient_authentication = 'digest'", r"oauth.client_authentication: .*'basic' or 'post'"),
        ("[oauth]\nleeway_seconds = -1", r"oauth.leeway_seconds"),
        ("[parameters]\npage_size_value = '0'", r"parameters.page_size_value"),
        ("[parameters]\npage_size_value = 100", r"parameters.page_size_value"),
        ("[streams.bookings]\ntypes = []", r"streams.bookings.types"),
        ("[streams.bookings]\nqueries = []", r"streams.bookings.queries"),
        ("[streams.bookings]\npath = ''", r"streams.bookings.path"),
        ("[streams.bookings.columns]\nprice = 'amount'", r"streams.bookings.columns.price"),
        ("[streams.accounts]\nenabled = false", r"streams.accounts.enabled cannot be false"),
        ("[document]\nnext = ''", r"document.next"),
        ("http = 'x'", r"http is a table; write its keys under \[http\]"),
        ("[streams]\nbookings = 1", r"streams.bookings is a table"),
        ("not toml", r"is not valid TOML"),
    ],
)
def test_a_wrong_override_is_told_with_file_key_and_cure(tmp_path: Path, text: str, told: str) -> None:
    file = own(tmp_path, text)
    with pytest.raises(ContractError, match=told) as failure:
        load_contract(file)
    assert str(failure.value).startswith(str(file))


@pytest.mark.parametrize("path", ["https://evil.example.test/x", "//evil.example.test/x", "x?page=1", "x#y", " x"])
def test_a_path_cannot_lead_a_token_to_another_origin(tmp_path: Path, path: str) -> None:
    with pytest.raises(ContractError, match=r"streams\.events\.path"):
        load_contract(own(tmp_path, f"[streams.events]\npath = '{path}'"))


@pytest.mark.parametrize("path", ["customer-bookings", "v2/events", "/v2/events", "shops/42/events"])
def test_a_path_may_be_deep(tmp_path: Path, path: str) -> None:
    assert load_contract(own(tmp_path, f"[streams.events]\npath = '{path}'")).streams["events"].path == path


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"APPOINTEDD_CONTRACT names .*none.toml, which does not exist"):
        load_contract(tmp_path / "none.toml")
    with pytest.raises(ContractError, match="cannot be read"):
        load_contract(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ContractError, match="cannot be read"):
        load_contract(tmp_path / "latin.toml")


def test_a_contract_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_contract().parameters.sort = "x"


# ---- contract, streams and schema say the same -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", BUILT_IN.values(), ids=BUILT_IN)
def test_every_column_has_a_name_in_the_contract_and_no_name_is_idle(stream: Stream) -> None:
    names = load_contract().streams[stream.name]
    assert names.columns.keys() == {c.name for c in stream.columns} | CHILD_MEMBERS.get(stream.name, set())
    assert all(names.columns.values())
    participants = {c.name for child in stream.children if child.table == "booking_customers" for c in child.columns}
    assert names.participant_columns.keys() == (
        participants | {"customer_booking_id", "answers"} if participants else set()
    )
    assert names.answer_columns.keys() == ({"question_id", "label", "value"} if participants else set())
    has_fields = "custom_fields" in names.columns
    assert names.custom_field_columns.keys() == ({"field_id", "value"} if has_fields else set())
    assert all(all(table.values()) for table in names.tables().values())


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("[streams.customers.columns]\nemail = ['mail']", {"customers"}),
        ("[streams.customers]\ndate_fields = ['born']", {"customers"}),
        ("[streams.bookings.participant_columns]\nnotes = ['note']", {"bookings"}),
        ("[streams.bookings.answer_columns]\nvalue = ['said']", {"bookings"}),
        ("[statuses.participant]\nlate = ['Late']", {"bookings", "events"}),
        ("[streams.customers]\ntypes = ['clients']", {"bookings"}),
        ("[redact]\nmembers = ['secret']", set(BUILT_IN)),
        ("[streams.bookings]\npath = 'slots'\n[parameters]\nsort = ''\n[plausible]\nsort = []", set()),
    ],
)
def test_a_streams_shape_is_another_where_its_columns_are_read_otherwise(
    tmp_path: Path, own: str, others: set[str]
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(own, encoding="utf-8")
    default, contract = load_contract(), load_contract(file)
    assert {s.name for s in BUILT_IN.values() if shape_of(s, default) != shape_of(s, contract)} == others


SQL_TYPES = {
    "text": "VARCHAR",
    "reference": "VARCHAR",
    "zone": "VARCHAR",
    "status": "VARCHAR",
    "instant": "TIMESTAMP WITH TIME ZONE",
    "money": "DECIMAL(18,4)",
    "number": "DECIMAL(38,9)",
    "integer": "INTEGER",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "json": "JSON",
}


def test_every_column_has_its_type_and_comment_in_the_schema() -> None:
    with connect(Path(":memory:"), read_only=False) as connection:
        for file in sorted((SQL_FOLDER / "schema").glob("*.sql")):
            connection.execute(file.read_text(encoding="utf-8"))
        rows = connection.execute(
            "select table_name, column_name, data_type, comment, is_nullable from duckdb_columns() where schema_name = 'core'"
        ).fetchall()
    stored: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, column, kind, comment, is_nullable in rows:
        assert comment, (table, column)
        stored.setdefault(table, {})[column] = (kind, is_nullable)
    expected: dict[str, dict[str, tuple[str, bool]]] = {}
    for stream in BUILT_IN.values():
        for table, key, columns in [
            (stream.name, stream.key, stream.columns),
            *((c.table, stream.key + c.key, c.columns) for c in stream.children),
        ]:
            expected[table] = dict.fromkeys(key, ("VARCHAR", False)) | {
                "deleted_at": ("TIMESTAMP WITH TIME ZONE", True)
            }
            for column in columns:
                expected[table][column.name] = (SQL_TYPES[column.kind], True)
                if column.kind == "status":
                    expected[table][f"{column.name}_raw"] = ("VARCHAR", True)
        expected[stream.name] |= {
            "deletion_evidence": ("VARCHAR", True),
            "document": ("JSON", True),
            "content_hash": ("VARCHAR", False),
            "fetched_at": ("TIMESTAMP WITH TIME ZONE", False),
            "slice_id": ("VARCHAR", False),
        }
    assert stored == expected
    assert SQL_TYPES.keys() == DTYPES.keys()


def test_every_guess_in_the_file_is_one_of_the_evidence() -> None:
    numbers = {int(n) for n in re.findall(r"\bG(\d+)\b", DEFAULT_CONTRACT.read_text(encoding="utf-8"))}
    assert numbers <= set(range(1, 33))
    assert len(numbers) > 15


def test_no_query_parameter_is_needed() -> None:
    contract = load_contract()
    assert all(stream.queries == ({},) for stream in contract.streams.values())


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ('[redact]\nmembers = ["E-Mail"]\n[streams.customers.columns]\nemail = ["e_mail"]\n', "streams.customers.columns.email"),
        ('[redact]\nmembers = ["price"]\n', "streams.bookings"),
        ('[redact]\nmembers = ["answer"]\n', "streams.bookings.answer_columns.value"),
        ('[redact]\nmembers = ["venue"]\n[streams.events.columns]\ntitle = ["place.venue"]\n', "streams.events.columns.title"),
        ('[redact]\nmembers = ["account-id"]\n', "account_reference.attributes reads, 'accountId'"),
    ],
)  # fmt: skip
def test_nothing_can_be_read_from_what_is_not_to_be_stored(tmp_path: Path, own: str, place: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(own, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"own\.toml: redact\.members takes out what {place}"):
        load_contract(file)


@pytest.mark.parametrize("name", ["data", "Included", "attributes"])
def test_what_every_record_is_made_of_cannot_be_redacted(tmp_path: Path, name: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'[redact]\nmembers = ["secret", "{name}"]\n', encoding="utf-8")
    with pytest.raises(ContractError, match=rf"own\.toml: redact\.members names {name.lower()}, of which every record"):
        load_contract(file)
