"""The running contract held against a vendor's OpenAPI file: what breaks a sync or empties a column, and what is only news.

What lives here: addresses, which list is which, the whole; pure, without any request. What does not: what is sent (`asking`), what comes back
(`answering`), learning new names (`connect` does, with the live API to prove them).
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pipelines.connect.answering import answering, names_account
from pipelines.connect.asking import asking
from pipelines.connect.described import contract_path, endpoints
from pipelines.connect.difference import Difference
from pipelines.streams import Stream, streams_of
from resources.contract import Contract
from resources.openapi import Description, ListEndpoint, Server, comparable
from resources.settings import Settings


def compare(settings: Settings, contract: Contract, description: Description) -> list[Difference]:
    """All differences, breaking ones first."""
    found = [*_addresses(settings, contract, description)]
    base = settings.appointedd_base_url or (description.servers[0].url if description.servers else "")
    by_path = {contract_path(one, description, base): one for one in description.lists}
    near = {name: contract_path(one, description, base) for name, one in endpoints(description, contract).items()}
    for name, stream in streams_of(contract).items():
        path = contract.streams[name].path
        # Without a base address nobody can tell what stands before a path.
        endpoint = next((one for p, one in by_path.items() if _is_path(p, path, is_whole=bool(base))), None)
        if endpoint is None:
            other = f"; {near[name]} looks like it" if name in near else ""
            found.append(Difference("breaking", name, f"no list at {path}{other}", f"streams.{name}.path"))
        else:
            found += _of_list(stream, contract, endpoint, settings)
    ours = {_last(contract.streams[name].path) for name in streams_of(contract)}
    for path in by_path:
        if _last(path) not in ours:
            told = f"the file describes a list that is not synced: {path}"
            found.append(Difference("harmless", "", told, "nothing needs doing"))
    return sorted(found, key=lambda d: (d.weight != "breaking", d.stream))


def _is_path(path: str, wanted: str, *, is_whole: bool) -> bool:
    """Whether a path is the one that is wanted, or at least ends like it where it is not known whole."""
    path, wanted = path.strip("/"), wanted.strip("/")
    return path == wanted or (not is_whole and path.endswith(f"/{wanted}"))


def _last(path: str) -> str:
    return path.strip("/").rpartition("/")[2]


def _addresses(settings: Settings, contract: Contract, description: Description) -> Iterator[Difference]:
    ours, servers = settings.appointedd_base_url, description.servers
    # Where every list has servers of its own, those of the whole file are nobody's.
    is_used = not description.lists or any(not e.servers for e in description.lists)
    if ours is not None and servers and is_used and not any(s.is_at(ours) or _is_around(s, ours) for s in servers):
        told = f"the file says {', '.join(s.url for s in servers)} and the settings {ours}"
        yield Difference("breaking", "", told, "set APPOINTEDD_BASE_URL")
    ours, theirs = settings.appointedd_token_url, description.token_url
    if ours is not None and theirs is not None and not _is_same(ours, theirs):
        told = f"the file says {theirs} and the settings {ours}"
        yield Difference("breaking", "", told, "set APPOINTEDD_TOKEN_URL")
    if description.scopes and (unknown := sorted(set(contract.oauth.scope.split()) - {*description.scopes})):
        told = f"tokens are asked for with {', '.join(unknown)}, which the file no longer offers"
        yield Difference("breaking", "", told, "oauth.scope")
    told_way = description.client_authentication
    if told_way is not None and told_way != contract.oauth.client_authentication:
        told = f"the token endpoint takes the secret by {told_way}"
        yield Difference("breaking", "", told, "oauth.client_authentication")


def _of_list(stream: Stream, contract: Contract, endpoint: ListEndpoint, settings: Settings) -> Iterator[Difference]:
    name, types = stream.name, endpoint.record.at("type")
    yield from _served(name, contract, endpoint, settings)
    if types.is_closed and not set(types.words) <= set(contract.streams[name].types):
        yield Difference("breaking", name, f"its records are of type {', '.join(types.words)}", f"streams.{name}.types")
    yield from asking(stream, contract, endpoint, names_account=names_account(contract, endpoint))
    yield from answering(stream, contract, endpoint)


def _is_around(server: Server, ours: str) -> bool:
    """Whether a server is above or below our address: then the paths of the lists tell what has changed, if anything has."""
    known, other = comparable(ours) + "/", comparable(server.url) + "/"
    known = urlsplit(known).path if other.startswith("/") else known
    return known.startswith(other) or other.startswith(known)


def _served(name: str, contract: Contract, endpoint: ListEndpoint, settings: Settings) -> Iterator[Difference]:
    """Where a list is served, if that is its own matter, and in which media type."""
    ours = settings.appointedd_base_url
    hosts = {urlsplit(comparable(s.url)).netloc for s in endpoint.servers}
    is_elsewhere = ours is not None and hosts and not hosts & {urlsplit(comparable(ours)).netloc, ""}
    if ours is not None and is_elsewhere and not any(s.is_at(ours) for s in endpoint.servers):
        told = f"it is served at {', '.join(s.url for s in endpoint.servers)}, and no token leaves {ours}"
        yield Difference("breaking", name, told, "no key: a programmer must teach it to the product")
    known = {contract.http.media_type, "application/json", "application/*", "*/*"}
    if endpoint.media_types and not known & {m.lower() for m in endpoint.media_types}:
        yield Difference("breaking", name, f"answers are {', '.join(endpoint.media_types)}", "http.media_type")


def _is_same(ours: str, theirs: str) -> bool:
    """Whether two addresses are one; by their path where the file's has no host."""
    known, other = comparable(ours), comparable(theirs)
    return known == other or (other.startswith("/") and urlsplit(known).path == other)
