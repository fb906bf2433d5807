"""What a sync sends, held against what a file lets through: parameters, their values, headers, scopes.

What lives here: pure decisions on the way out. What does not: what comes back (`answering`), addresses and paths (`compare`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pipelines.connect.described import hints
from pipelines.connect.difference import Difference
from pipelines.streams import ACCOUNTS, Stream
from resources.abilities import ABILITIES, Abilities
from resources.contract import Contract
from resources.openapi import ListEndpoint, Parameter
from resources.schemas import Shape

# An instant as filters send it, and formats that it is not in; a format of the vendor's own says nothing.
INSTANT = "2026-01-02T03:04:05Z"
OTHER_FORMATS = frozenset(
    {
        *(
            "date",
            "time",
            "duration",
            "partial-date-time",
            "date-time-local",
            "local-date-time",
            "unix-time",
            "unixtime",
        ),
        *("unix-timestamp", "epoch", "timestamp", "int32", "int64", "uuid", "email", "uri", "binary", "byte"),
    }
)
# Headers that every request carries; OpenAPI itself leaves out what is said of the first three.
SENT_HEADERS = {"accept", "authorization", "content-type", "accept-encoding", "user-agent", "host", "connection"}


def asking(stream: Stream, contract: Contract, endpoint: ListEndpoint, *, names_account: bool) -> Iterator[Difference]:
    """What a list no longer takes, or newly asks for. `names_account`: its records say whose they are, so it may be asked for all accounts at once."""
    yield from _values(stream, contract, endpoint)
    yield from _required(stream, contract, endpoint, names_account=names_account)
    yield from _scopes(stream, contract, endpoint)
    if stream is not ACCOUNTS and "updated_since" not in sent(stream, contract) and hints(endpoint).changes:
        low = hints(endpoint).changes[0][0]
        told = f"{low} may filter by change time, and is not used"
        yield Difference("harmless", stream.name, told, "`connect` can prove it")


def sent(stream: Stream, contract: Contract) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Key of `parameters` → the parameter's name and the values that are sent with it; only those that a sync sends."""
    names, parameters = contract.streams[stream.name], contract.parameters
    values = {
        "page_size": (parameters.page_size_value,),
        "sort": (names.sort,),
        "include": names.include,
        "updated_since": (INSTANT,),
        "updated_until": (INSTANT,),
        "account": (),
    }
    never = ("updated_since", "updated_until") if stream is ACCOUNTS else ()
    abilities = Abilities(contract)
    keys = [key for key, ability in ABILITIES.items() if key not in never and abilities.has(stream.name, ability)]
    return {key: (getattr(parameters, key), values[key]) for key in keys}


def _values(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    """Parameters that a sync sends and the file does not describe, or whose values it does not take; those of the contract's queries too."""
    name, own = stream.name, f"streams.{stream.name}"
    cures = {"page_size": "parameters.page_size_value", "sort": f"{own}.sort", "include": f"{own}.include"}
    queries = dict.fromkeys(pair for query in contract.streams[name].queries for pair in query.items())
    asked = [
        *((key, f"parameters.{key}", parameter, values) for key, (parameter, values) in sent(stream, contract).items()),
        *(("", f"{own}.queries", parameter, (value,)) for parameter, value in queries),
    ]
    for key, cure, parameter, values in asked:
        described = endpoint.parameter(parameter)
        if described is None:
            yield Difference("breaking", name, f"the parameter {parameter} is not described", cure)
            continue
        for value in values:
            if told := _untaken(key, value, described.shape):
                yield Difference("breaking", name, f"{parameter} {told}", cures.get(key, cure))


def _untaken(key: str, value: str, shape: Shape) -> str | None:
    """Why a parameter does not take what a sync sends with it, as the end of a sentence; None where it does. `key`: its own in the contract."""
    if key.startswith("updated_") and shape.formats & OTHER_FORMATS:
        return f"takes {', '.join(sorted(shape.formats))}, not an instant"
    if key == "sort" and all(refusal(part, shape) is None for part in value.split(",")):
        return None  # JSON:API lists them with commas, also where the file names each alone
    return refusal(value, shape)


def refusal(value: str, shape: Shape) -> str | None:
    """Why a parameter of a shape does not take a value, as the end of a sentence; None where it does. A list takes values with commas between them."""
    may_be_one = not shape.types or shape.types - {"array", "object"}
    told = _refused_alone(value, shape) if may_be_one else None
    if shape.items is None or (may_be_one and told is None):
        return told
    return next((told for part in value.split(",") if (told := _refused_alone(part, shape.items))), None)


def _refused_alone(value: str, shape: Shape) -> str | None:
    if shape.is_closed and value not in shape.words:
        return f"does not take {value}"
    is_number = re.fullmatch(r"-?\d+(\.0+)?", value) is not None
    if shape.types and shape.types <= {"integer", "number", "boolean"} and not is_number:
        is_boolean = "boolean" in shape.types and value in ("true", "false")
        is_fraction = "number" in shape.types and re.fullmatch(r"-?\d+\.\d+", value) is not None
        if not (is_boolean or is_fraction):
            return f"takes {' or '.join(sorted(shape.types))}, not {value}"
    if is_number and shape.types != {"string"}:
        number = int(value.partition(".")[0])
        if shape.maximum is not None and number > shape.maximum:
            return f"ends at {shape.maximum}"
        if shape.minimum is not None and number < shape.minimum:
            return f"begins at {shape.minimum}"
    if shape.pattern is not None and not _may_match(shape.pattern, value):
        return f"takes {shape.pattern}, not {value}"
    return None


def _may_match(pattern: str, value: str) -> bool:
    """Whether a value matches a pattern of JavaScript's; yes where it is one that Python does not know."""
    try:
        return re.search(pattern, value, re.ASCII) is not None
    except (re.error, OverflowError):
        return True


def _requests(stream: Stream, contract: Contract, *, names_account: bool) -> list[set[str]]:
    """The parameters of each kind of first page that a sync asks for. A sweep filters by nothing, and the newest window has no upper end. One account
    alone is asked for now and then, and always where rows do not name theirs."""
    names = {key: name for key, (name, _) in sent(stream, contract).items()}
    base = {name for key, name in names.items() if key in ("page_size", "sort", "include")}
    windows: list[list[str]] = [[], ["updated_since"], ["updated_since", "updated_until"]]
    accounts: list[list[str]] = [["account"]] if "account" in names and not names_account else [[], ["account"]]
    return [
        base | {names[key] for key in (*window, *account) if key in names} | query.keys()
        for query in contract.streams[stream.name].queries
        for window in windows
        for account in accounts
    ]


def _required(
    stream: Stream, contract: Contract, endpoint: ListEndpoint, *, names_account: bool
) -> Iterator[Difference]:
    name, requests = stream.name, _requests(stream, contract, names_account=names_account)
    cure = f"streams.{name}.queries"
    for described in endpoint.parameters:
        own = {described.name, described.also} - {""}
        without = [request for request in requests if not own & request]
        sometimes = ", and not every request of a sync does" if len(without) < len(requests) else ""
        if described.is_required and without:
            yield Difference("breaking", name, f"the parameter {described.name} must be sent{sometimes}", cure)
        elif described.is_required_beside and (beside := _beside(described, endpoint, without)):
            told = f"the parameter {described.name} must be sent beside {beside}{sometimes}"
            yield Difference("breaking", name, told, cure)
    for described in endpoint.elsewhere:
        if described.is_required and not (described.place == "header" and described.name.lower() in SENT_HEADERS):
            told = f"the {described.place} {described.name} must be sent"
            yield Difference("breaking", name, told, "no key: a programmer must teach it to the product")


def _beside(described: Parameter, endpoint: ListEndpoint, requests: Iterable[set[str]]) -> str | None:
    """A parameter of the same object that one of some requests sends."""
    for one in sorted({name for request in requests for name in request}):
        other = endpoint.parameter(one)
        if one.startswith(described.holder + "[") or (other is not None and other.holder == described.holder):
            return one
    return None


def _scopes(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    asked = set(contract.oauth.scope.split())
    if not endpoint.needs or any(need.scopes <= asked and not need.others for need in endpoint.needs):
        return
    need = min(endpoint.needs, key=lambda n: (len(n.others), len(n.scopes - asked)))
    if missing := sorted(need.scopes - asked):
        told = f"the scope{'s' * (len(missing) > 1)} {', '.join(missing)} must be asked for"
        yield Difference("breaking", stream.name, told, "oauth.scope")
    if need.others:
        told = f"it wants {', '.join(need.others)} besides a token"
        yield Difference("breaking", stream.name, told, "no key: a programmer must teach it to the product")
