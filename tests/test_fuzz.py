"""Broken pages and odd records, by the thousand: no crash, no partial list, no value lost without a word.

What lives here: two fuzzers with fixed seeds (bytes against the decoder, members against the normaliser), each with a judge of its own that shares no code
with the product. What does not: single known hazards (`test_normalise`, `test_records`, `test_appointedd`).
"""

from __future__ import annotations

import copy
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import slots
from pipelines.extract import NoAccountError
from pipelines.normalise import Batch, combine, normalise, normalise_pages
from pipelines.records import Fetched, index, read_document
from pipelines.slots import Body, NotPlainError
from pipelines.streams import BUILT_IN, Stream
from resources.answers import document_of
from resources.appointedd import ApiClient
from resources.contract import Contract, load_contract
from resources.database import connect
from resources.envelope import Plain
from resources.errors import ProductError, SliceError
from resources.publish import run_checks
from resources.retries import TroubleError
from resources.sql_files import checks
from tests.emulator import Emulator, Fault, Replace, World, on
from tests.equality import night, query, settings_for

Json = dict[str, Any]
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
CANARY = "fuzz-canary-7f3a"
CHECKED = "unique_", "rows_match_ledger_"


# ---- true pages and records --------------------------------------------------------------------------------------------------


def small_world() -> World:
    return World(seed=3, accounts=2, customers=120, bookings=160, events=8, years=2)


@contextmanager
def api(emulator: Emulator, folder: Path = Path("unused")) -> Iterator[ApiClient]:
    chosen = settings_for(emulator, folder)
    access = chosen.api_access()
    with ApiClient(access.clients[0], chosen, load_contract()) as client:
        yield client


@cache
def true_bodies() -> dict[str, tuple[bytes, ...]]:
    """Stream → the bodies of its pages, as they went over the wire."""
    found: dict[str, list[bytes]] = {name: [] for name in BUILT_IN}
    with Emulator(small_world()) as emulator, api(emulator) as client:
        for name, bodies in found.items():

            def keep(body: bytes, bodies: list[bytes] = bodies) -> bytes:
                bodies.append(body)
                return body

            emulator.faults[:] = [Fault(on("/v2/"), Replace(keep), times=None)]
            assert list(client.pages(name, {}, {}))
    return {name: tuple(bodies) for name, bodies in found.items()}


decode = msgspec.json.Decoder(float_hook=Decimal).decode
encode = msgspec.json.Encoder(decimal_format="number").encode


@cache
def true_records(name: str) -> tuple[tuple[bytes, bytes], ...]:
    """Records of a stream with the included resources that they name, encoded, so that nobody can change them for others."""
    found = []
    for page in map(decode, true_bodies()[name]):
        by_id = {r["id"]: r for r in page.get("included") or []}
        for record in page["data"]:
            linkage = record.get("relationships", {}).get("customerBookings", {}).get("data", [])
            found.append((encode(record), encode([by_id[i["id"]] for i in linkage if i["id"] in by_id])))
    return tuple(found)


# ---- bytes -------------------------------------------------------------------------------------------------------------------


@contextmanager
def deep_stack() -> Iterator[None]:
    """Room for the judge, who is recursive, and never for the judged."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(6_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def strict(body: bytes) -> Any:
    """What the standard library reads behind a byte order mark, which RFC 8259 lets a reader pass over; raises ValueError, RecursionError or
    InvalidOperation where it refuses.
    """

    def refuse(word: str) -> None:
        raise ValueError(word)

    with deep_stack():
        value = json.loads(body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=refuse)
        return without_surrogates(value)


def without_surrogates(value: Any) -> Any:
    """Half a surrogate pair is no text; the product reads it as U+FFFD."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return [without_surrogates(v) for v in value] if isinstance(value, list) else value


def is_document(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "data" in value
        and isinstance(value["data"], dict | list | None)
        and "errors" not in value
        and isinstance(value.get("included") or [], list)
    )


HUGE = (
    b"1e400",
    b"-0",
    b"-0.0",
    b"7" * 5000,
    b"0." + b"3" * 5000,
    b"1e99999999999999999999",
    b"1e-999999",
    b"00",
    b"+1",
)
WORDS = (
    b"NaN",
    b"Infinity",
    b"nul",
    b"True",
    b'"\\ud83d"',
    b'"\\udc00\\ud83d"',
    b'"\\u0000"',
    b'"\\x41"',
    b'"\x00"',
    b'"\x1f"',
)
BAD_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")


def a_value(body: bytes, rng: random.Random) -> tuple[int, int]:
    """Where a value of the body stands: after a colon, up to a comma or a bracket."""
    found = [m.span(1) for m in re.finditer(rb":\s*([^,\[\]{}]+)", body)]
    return rng.choice(found) if found else (0, len(body))


def swapped(body: bytes, rng: random.Random, new: bytes) -> bytes:
    start, end = a_value(body, rng)
    return body[:start] + new + body[end:]


def cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randrange(len(body))]


def flipped(body: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 8))):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def repeated(body: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(body))
    end = min(len(body), start + rng.randrange(1, 400))
    return body[:end] + body[start:end] + body[end:]


def dropped(body: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(body))
    return body[:start] + body[start + rng.randrange(1, 40) :]


def nested(body: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((10, 400, 900, 1500, 20_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return swapped(body, rng, opening * depth + b"1" + closing * (depth - rng.choice((0, 0, 1))))


def twice_named(body: bytes, rng: random.Random) -> bytes:
    return re.sub(rb'"(id|type|data|next|attributes)":', rb'"\1":"twice","\1":', body, count=rng.randrange(1, 4))


def misspelt(body: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(body))
    return body[:place] + rng.choice((*BAD_UTF8, b"\x00", b"\\", b'"', b"\xef\xbb\xbf")) + body[place:]


BYTE_MUTATORS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    flipped,
    repeated,
    dropped,
    nested,
    twice_named,
    misspelt,
    lambda body, rng: swapped(body, rng, rng.choice(HUGE)),
    lambda body, rng: swapped(body, rng, rng.choice(WORDS)),
    lambda body, rng: swapped(body, rng, rng.choice((b"null", b"[]", b"{}", b"5", b'""', b"true"))),
    lambda body, rng: b"\xef\xbb\xbf" + body,
    lambda body, rng: body + rng.choice((b"\n", b" ", b"\x00", b"}", b"{}", body[:50])),
    lambda body, rng: rng.choice((b"", b"null", b"[]", b"{}", b'{"data":null}', b'{"errors":[],"data":[]}', b'"data"')),
)


def mutated_bodies(seed: int, count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    bodies = [body for found in true_bodies().values() for body in found]
    # A small page is mutated a hundred times in the time that one large page takes.
    small = [encode(decode(b) | {"data": decode(b)["data"][:3], "included": []}) for b in bodies]
    for number in range(count):
        body = rng.choice(bodies if number % 50 == 0 else small)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            body = rng.choice(BYTE_MUTATORS)(body, rng) or b" "
        yield body


PLAIN = Plain("links.next", "meta.total")


def pages_a_linkage(record: Json) -> bool:
    """Whether one of its relationships has a next link."""
    relationships = record.get("relationships")
    found = relationships.values() if isinstance(relationships, dict) else ()
    return any(isinstance(r, dict) and isinstance(r.get("links"), dict) and "next" in r["links"] for r in found)


def judge_page(body: bytes) -> str:
    """Compare one page as the product reads it with the standard library; gives what became of it."""
    response = httpx.Response(200, content=body, request=httpx.Request("GET", "https://api.example/v2/bookings"))
    plain = PLAIN.read(body)
    if plain is not None:
        # What is taken for whole by its envelope alone must be whole, and hold what was read of it.
        value = decode(body)
        assert is_document(value), body[:300]
        assert [r["id"] for r in value["data"]] == plain.ids, body[:300]
        assert plain.around == {name: value[name] for name in ("links", "meta") if name in value}, body[:300]
        assert not any(pages_a_linkage(r) for r in value["data"]), body[:300]
    try:
        expected = strict(body)
        is_good = is_document(expected)
    except (ValueError, RecursionError, InvalidOperation):
        is_good = False
    try:
        read = document_of(response, str)
    except (ProductError, TroubleError):
        # Refusing is never wrong for the rows; but what is good may be refused only for a nesting beyond all measure.
        assert not is_good or deepest(body) > 400, body[:300]
        return "refused"
    assert is_good, body[:300]
    assert same(read, expected), body[:300]
    return "read"


def deepest(body: bytes) -> int:
    depth = most = 0
    for byte in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body):
        depth += (byte in b"[{") - (byte in b"]}")
        most = max(most, depth)
    return most


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, to the digit; without recursion."""
    waiting = [(one, other)]
    while waiting:
        a, b = waiting.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return False
            waiting += [(v, b[k]) for k, v in a.items()]
        elif isinstance(a, list):
            if len(a) != len(b):
                return False
            waiting += zip(a, b, strict=True)
        elif a != b or str(a) != str(b):
            return False
    return True


def fuzz_pages(seed: int, count: int) -> Counter[str]:
    told: Counter[str] = Counter()
    for number, body in enumerate(mutated_bodies(seed, count)):
        try:
            told[judge_page(body)] += 1
        except BaseException:
            print(f"seed {seed}, page {number}: {body[:2000]!r}")
            raise
    return told


def test_a_broken_page_is_read_as_the_standard_library_reads_it_or_refused() -> None:
    told = fuzz_pages(seed=1, count=3_000)
    assert told["read"] > 300, told
    assert told["refused"] > 1000, told


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_thousand_broken_pages() -> None:
    print(sum((fuzz_pages(seed, count=4_000) for seed in range(2, 8)), Counter()))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 10**6))
def test_any_bytes_inside_a_page(garbage: bytes, place: int) -> None:
    body = true_bodies()["events"][0]
    at = place % len(body)
    judge_page(body[:at] + garbage + body[at:])
    judge_page(garbage)


def test_through_a_socket_a_broken_page_is_an_error_and_never_the_end_of_a_list() -> None:
    rng = random.Random(5)
    with Emulator(small_world()) as emulator, api(emulator) as client:
        whole = [r["id"] for page in client.pages("customers", {}, {}) for r in page.records]
        told: Counter[str] = Counter()
        for _ in range(40):
            mutate, seed = rng.choice(BYTE_MUTATORS), rng.random()
            sent: list[bytes] = []

            def spoil(body: bytes, mutate: Any = mutate, seed: float = seed, sent: list[bytes] = sent) -> bytes:
                sent.append(body)
                sent.append(mutate(body, random.Random(seed)))
                return sent[-1]

            emulator.faults[:] = [
                Fault(lambda r: "page[after]" in str(r.query) or "cursor" in str(r.query), Replace(spoil), times=None)
            ]
            try:
                read = [r.get("id") for page in client.pages("customers", {}, {}) for r in page.records]
            except SliceError:
                told["error"] += 1
                continue
            assert sent, "the second page was asked for"
            changed = strict(sent[1])
            if "next" not in (strict(sent[0])["links"].keys() - changed.get("links", {}).keys()):
                expected = len(whole) - len(strict(sent[0])["data"]) + len(changed["data"])
                assert len(read) == expected, mutate
            told["list"] += 1
        assert told["error"] > 10, told


# ---- records -----------------------------------------------------------------------------------------------------------------

DEEP: Any = json.loads('{"a":' * 300 + f'{{"cancelUrl":"{CANARY}"}}' + "}" * 300)
POOL: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    10**30,
    10**400,
    Decimal("1e400"),
    Decimal("1E+2"),
    Decimal("-0.0"),
    Decimal("12.1" + "0" * 38 + "1"),
    Decimal("4E-20"),
    Decimal("99999999999999.99995"),
    "",
    " ",
    "x" * 10_000,
    "true",
    "12.50",
    "1e3",
    "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999-14:00",
    "10000-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-03-02T02:00:00",
    "2026-03-02T02:00:00.123456789Z",
    "2026-03-02T02:00:00+05:30",
    "Europe/Nowhere",
    "\x00",
    "a/b",
    "a\"b'c;--",
    "a\nb\r\t",
    "ü€😀\u202e\ufffe",
    [],
    [[]],
    [None],
    ["x", "x", 5],
    {},
    {"id": 5},
    {"id": ""},
    {"type": [], "id": {}},
    {"type": "customers", "id": "odd"},
    {"data": "no linkage"},
    {"cancelUrl": CANARY, "kept": 1},
    [{"id": "twice", "value": 1}, {"id": "twice", "value": 2}],
    DEEP,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    found = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        pairs = container.items() if isinstance(container, dict) else enumerate(container)
        for key, inner in list(pairs):
            found.append((container, key))
            if isinstance(inner, dict | list):
                waiting.append(inner)
    return found


ENVELOPE = ("type", "id", "attributes", "relationships")


def mutate_record(record: Json, rng: random.Random, pool: Sequence[Any] = POOL) -> Any:
    """One change somewhere in a record."""
    deed = rng.randrange(12)
    if deed == 0 and rng.random() < 0.5:
        record[rng.choice(ENVELOPE)] = copy.deepcopy(rng.choice(pool))
        return record
    if deed == 1 and rng.random() < 0.2:
        return copy.deepcopy(rng.choice(pool))
    spots = places(record)
    if not spots:
        return record
    container, key = rng.choice(spots)
    if deed == 2:
        del container[key]
    elif deed == 3:
        container[key] = rng.choice(({"data": container[key]}, [container[key]], {"id": container[key]}))
    elif deed == 4 and isinstance(container, dict) and "ancel" not in key:
        container[f"{key}Odd"] = container.pop(key)
    elif deed == 5 and isinstance(container, list):
        container.insert(0, copy.deepcopy(container[key]))
    elif deed == 6 and isinstance(container, dict):
        container["cancellationUrl"] = f"https://book.example/?token={CANARY}"
    else:
        container[key] = copy.deepcopy(rng.choice(pool))
    return record


def mutated(name: str, rng: random.Random, pool: Sequence[Any] = POOL) -> Fetched:
    record, included = (decode(text) for text in rng.choice(true_records(name)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        record = mutate_record(record, rng, pool) if isinstance(record, dict) else record
    if included and rng.random() < 0.5:
        included = [mutate_record(r, rng, pool) for r in included]
    # Over the wire and back: what the decoder could not give is no case.
    record, included = decode(encode(record)), decode(encode(included))
    return Fetched(record, index(included), NOW)


def redacted(value: Any, members: Iterable[str]) -> Any:
    """The judge's own removal of members, recursive where the product's is not."""
    with deep_stack():
        return _redacted(value, members)


def _redacted(value: Any, members: Iterable[str]) -> Any:
    if isinstance(value, dict):
        return {k: _redacted(v, members) for k, v in value.items() if k not in members}
    return [_redacted(v, members) for v in value] if isinstance(value, list) else value


def sent_value(record: Json, names: Sequence[str]) -> Any:
    """What a record sends for a column: the first name that is present as an attribute, else as a relationship; None where that is not plain."""
    attributes, relationships = record.get("attributes") or {}, record.get("relationships") or {}
    for name in names:
        if "." in name:
            return None
        if name in attributes:
            return attributes[name]
        if name in relationships:
            relationship = relationships[name]
            if isinstance(relationship, dict) and "data" not in relationship:
                continue
            return relationship["data"] if isinstance(relationship, dict) else relationship
    return None


def means_the_same(kind: str, sent: Any, stored: Any) -> bool:
    """Whether a stored value is the one that was sent, by Python's own reading of it."""
    if isinstance(sent, dict) and kind in ("reference",):
        sent = sent.get("id")
    match kind:
        case "text" | "reference":
            return bool(str(sent) == stored)
        case "zone":
            return bool(sent == stored)
        case "status":
            return isinstance(stored, str)
        case "boolean":
            return stored is (sent if isinstance(sent, bool) else sent == "true")
        case "instant":
            return bool(datetime.fromisoformat(str(sent).strip()) == stored)
        case _:
            return bool(Decimal(str(sent).strip()) == stored)


def judge_batch(stream: Stream, contract: Contract, fetched: Sequence[Fetched]) -> Batch:
    """Everything that must hold of some records and the batch made of them."""
    batch = normalise(stream, contract, fetched, {}, default_account="the-account")
    names, members = contract.streams[stream.name], contract.redact.members
    rows = batch.rows.to_dicts()
    judge_slots(stream, contract, fetched, batch)
    assert batch.read_count == len(fetched) == len(rows) + len(batch.quarantine)
    whole = combine([batch])
    assert whole.rows.height + whole.duplicate_count + len(whole.quarantine) == len(fetched)
    assert whole.rows.select(stream.key).is_duplicated().sum() == 0
    for child in stream.children:
        assert whole.children[child.table].select([*stream.key, *child.key]).is_duplicated().sum() == 0

    usable = [f for f in fetched if not is_unusable(f.record, names.types)]
    kept = [decode(text) for _, text, _ in batch.quarantine]
    unusable = [redacted(f.record, members) for f in fetched if is_unusable(f.record, names.types)]
    assert same(kept, unusable)
    lost = 0
    for one, row in zip(usable, rows, strict=True):
        document = decode(row["document"])
        assert same(document["data"], redacted(one.record, members)), one.record["id"]
        assert CANARY not in row["document"]
        for column in stream.columns:
            aliases = names.columns.get(column.name, ())
            value = sent_value(one.record, aliases)
            if value is None or value in ("", []):
                continue
            stored = row[column.name]
            if stored is None:
                lost += 1
            else:
                assert means_the_same(column.kind, value, stored), (column.name, value, stored)
    noted = sum(n for key, n in batch.drift.items() if key.kind == "bad_value")
    assert lost <= noted, (lost, batch.drift)
    assert CANARY not in repr(batch.drift) + repr(batch.quarantine)
    for child_name, frame in batch.children.items():
        assert CANARY not in frame.write_csv(), child_name

    # Kept documents give the same rows again.
    again = normalise(stream, contract, [read_document(r["document"], NOW) for r in rows], {}, "the-account")
    assert again.rows.equals(batch.rows)
    for name, frame in batch.children.items():
        assert again.children[name].equals(frame), name
    return whole


IN_SLOTS: Counter[bool] = Counter()


def judge_slots(stream: Stream, contract: Contract, fetched: Sequence[Fetched], batch: Batch) -> None:
    """The same records as pages of their own, in slots: the same batch, or a word that they are not of the plain form."""
    slots._forms.clear()  # other cases' names would be learned too, until there are too many
    pages = [Body(encode({"data": [one.record], "included": list(one.included.values())}), NOW) for one in fetched]
    try:
        found = normalise_pages(stream, contract, pages, {}, default_account="the-account")
    except NotPlainError:
        IN_SLOTS[False] += 1
        return
    IN_SLOTS[True] += 1
    assert found.rows.equals(batch.rows)
    assert found.drift == batch.drift
    assert found.examples == batch.examples
    assert found.present == batch.present
    for name, frame in batch.children.items():
        assert found.children[name].equals(frame), name


def is_whole(value: Any) -> bool:
    """A whole number, which some servers send for an id though JSON:API asks for text."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_unusable(record: Any, types: Sequence[str]) -> bool:
    return (
        not isinstance(record, dict)
        or not (is_whole(record.get("id")) or (isinstance(record.get("id"), str) and record["id"]))
        or not isinstance(record.get("type"), str)
        or record["type"] not in types
        or not isinstance(record.get("attributes") or {}, dict)
        or not isinstance(record.get("relationships") or {}, dict)
    )


def fuzz_records(seed: int, count: int, batch_size: int = 100) -> Counter[str]:
    rng, contract, told = random.Random(seed), load_contract(), Counter[str]()
    for number in range(count // batch_size):
        stream = BUILT_IN[
            rng.choice(("accounts", "customers", "customers", "bookings", "bookings", "bookings", "events"))
        ]
        fetched = [mutated(stream.name, rng) for _ in range(batch_size)]
        try:
            batch = judge_batch(stream, contract, fetched)
        except BaseException:
            print(f"seed {seed}, batch {number} of {stream.name}")
            raise
        told["rows"] += batch.rows.height
        told["quarantined"] += len(batch.quarantine)
        told["duplicates"] += batch.duplicate_count
        told["drift"] += sum(batch.drift.values())
    return told


def test_odd_records_become_rows_or_quarantine_and_lose_no_value_without_a_word() -> None:
    told = fuzz_records(seed=1, count=1_200)
    assert told["rows"] > 400, told
    assert told["quarantined"] > 50, told
    assert told["drift"] > 200, told


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_odd_value_in_every_column_is_stored_or_noted(name: str) -> None:
    contract, records = load_contract(), []
    record, included = true_records(name)[0]
    for number, (aliases, value) in enumerate(
        (aliases, value) for aliases in contract.streams[name].columns.values() for value in POOL
    ):
        odd = decode(record)
        odd["id"] = f"r{number}"
        odd.get("relationships", {}).pop(aliases[0], None)
        odd["attributes"][aliases[0]] = value
        records.append(Fetched(decode(encode(odd)), index(decode(included)), NOW))
    judge_batch(BUILT_IN[name], contract, records)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_thousand_odd_records() -> None:
    print(sum((fuzz_records(seed, count=4_000) for seed in range(2, 8)), Counter()))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(BUILT_IN)), st.lists(VALUES, min_size=1, max_size=4), st.integers(0, 10**6))
def test_any_value_anywhere_in_a_record(name: str, pool: list[Any], seed: int) -> None:
    rng = random.Random(seed)
    judge_batch(BUILT_IN[name], load_contract(), [mutated(name, rng, pool) for _ in range(3)])


def test_a_row_without_account_stops_the_batch_where_there_may_be_several() -> None:
    rng, contract = random.Random(8), load_contract()
    for name in ("customers", "bookings", "events"):
        for _ in range(30):
            one = mutated(name, rng)
            if is_unusable(one.record, contract.streams[name].types):
                continue
            try:
                rows = normalise(BUILT_IN[name], contract, [one], {}).rows
            except NoAccountError:
                assert normalise(BUILT_IN[name], contract, [one], {}, "a").rows.get_column("account_id").to_list() == [
                    "a"
                ]
            else:
                assert rows.get_column("account_id").null_count() == 0


# ---- into a file -------------------------------------------------------------------------------------------------------------


def odd_nights(world: World, folder: Path, seed: int, nights: int, share: float) -> None:
    """Nights with odd records on every page, into a real file; then the checks that hold rows and ledger together."""
    rng = random.Random(seed)

    def spoil(body: bytes) -> bytes:
        document = decode(body)
        for place, record in enumerate(document["data"]):
            if rng.random() < share:
                document["data"][place] = mutate_record(record, rng)
        for place, resource in enumerate(document.get("included") or []):
            if rng.random() < share:
                document["included"][place] = mutate_record(resource, rng)
        return encode(document)

    with Emulator(world) as emulator:
        chosen = settings_for(emulator, folder, sync_concurrency=1)
        for number in range(nights):
            emulator.faults[:] = [Fault(lambda r: r.path in LISTS, Replace(spoil), times=None)]
            report = night(chosen, kind="sweep" if number == nights - 1 else "nightly")
            told = [p for p in report.problems if "Error" in p]
            assert not told, (seed, told)
            world.live_a_day()
    read, accounted = query(
        chosen.warehouse_path,
        """
        select sum(read_count),
            sum(inserted_count + updated_count + unchanged_count + stale_count + duplicate_count + quarantined_count)
        from ops.slices
        """,
    )[0]
    assert read == accounted, seed
    quarantined, held = query(
        chosen.warehouse_path, "select sum(quarantined_count), (select count(*) from ops.quarantine) from ops.slices"
    )[0]
    assert quarantined == held > 0, seed
    with connect(chosen.warehouse_path, read_only=True) as connection:
        guards = [c for c in checks() if c.name.startswith(CHECKED)]
        assert len(guards) > 6
        assert [str(f) for f in run_checks(connection, guards) if f.count] == [], seed
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name in ('core', 'history', 'ops')"
        ).fetchall()
        for schema, table in tables:
            sql = f"select count(*) from {schema}.{table} as t where t::VARCHAR like '%{CANARY}%'"  # noqa: S608  names from the catalogue
            assert connection.execute(sql).fetchone() == (0,), (seed, table)


LISTS = {"/v2/customers", "/v2/bookings", "/v2/events"}


def test_odd_records_are_committed_and_rows_match_the_ledger(tmp_path: Path) -> None:
    odd_nights(World(seed=4, accounts=2, customers=100, bookings=150, events=20, years=1), tmp_path, 1, 2, 0.2)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_odd_nights(seed: int, tmp_path: Path) -> None:
    odd_nights(World(seed=seed, accounts=3, customers=1000, bookings=1500, events=50, years=2), tmp_path, seed, 4, 0.5)
