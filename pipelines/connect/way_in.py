"""The way in: addresses, the token request that works, the media type that is let through.

What lives here: what must be right before the first list can be asked for. What does not: any question about lists. A secret goes to the token address of the
settings only, whatever a file says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Learned, Line
from pipelines.connect.probe import Probe, content_type
from resources.appointedd import ApiClient, Look
from resources.contract import Contract
from resources.errors import ClientRefusedError, SettingsError
from resources.openapi import Description
from resources.settings import ApiAccess, Settings

PLAIN = "application/json"
NOT_ACCEPTABLE = (406, 415)


def access_of(settings: Settings, description: Description | None) -> ApiAccess:
    """The settings' access. Where an address is missing and the file has it, `SettingsError` gives the lines for .env: no secret goes to an address that only
    a file names.
    """
    if description is None:
        return settings.api_access()
    lines = []
    if settings.appointedd_base_url is None and description.servers:
        lines.append(f"APPOINTEDD_BASE_URL={description.servers[0].url}")
    if settings.appointedd_token_url is None and description.token_url:
        lines.append(f"APPOINTEDD_TOKEN_URL={description.token_url}")
    if lines:
        raise SettingsError(
            f"{description.source} names the addresses that the settings lack. If they are the vendor's own, put them into .env:\n"
            + "\n".join(lines)
        )
    return settings.api_access()


def addresses(access: ApiAccess, description: Description | None) -> Iterator[Finding]:
    """What the settings and the file say of addresses and API clients."""
    first, *others = [client.name for client in access.clients]
    if others:
        told = f"asked with {first}; not asked with {', '.join(others)}"
        yield Finding("", "API clients", f"{len(access.clients)}", told, "uses them all", "likely")
    if description is None:
        return
    name = f"{description.title} {description.version}".strip()
    told = f"{len(description.lists)} lists described in {description.source}"
    yield Finding("", "OpenAPI file", name, told, "nothing: each name was tried", "certain")
    for name, ours, theirs in (
        ("base address", access.base_url, description.servers[0].url if description.servers else None),
        ("token address", access.token_url, description.token_url),
    ):
        if theirs is not None and theirs.rstrip("/") != ours:
            yield Finding("", name, ours, f"the file says {theirs}", "uses the setting", "low")


@contextmanager
def way_in(
    settings: Settings, contract: Contract, description: Description | None, access: ApiAccess, learned: Learned
) -> Iterator[Probe]:
    """A probe with a token. The ways of asking for one are tried, the likeliest first; raises `ClientRefusedError` where none works."""
    described = description.client_authentication if description else None
    ways = unique([described or "", contract.oauth.client_authentication, "basic", "post"])
    path, count = contract.streams["accounts"].path, 0
    refusals: list[ClientRefusedError] = []
    for way in ways:
        for media_type in (contract.http.media_type, PLAIN):
            with ApiClient(access.clients[0], settings, _asking(contract, way, media_type)) as client:
                try:
                    count += 1
                    look = client.look(path, {})
                except ClientRefusedError as error:
                    refusals.append(error)
                    break
                if look.status in NOT_ACCEPTABLE and media_type != PLAIN:
                    continue  # plain JSON may be
                learned.add(*_opened(way, media_type, look, ways[0] if refusals else ""))
                probe = Probe(client)
                probe.keep(path, look, count)
                yield probe
                return
    raise refusals[0]


def _asking(contract: Contract, way: str, media_type: str) -> Contract:
    oauth = contract.oauth.model_copy(update={"client_authentication": way})
    http = contract.http.model_copy(update={"media_type": media_type})
    return contract.model_copy(update={"oauth": oauth, "http": http})


def _opened(way: str, media_type: str, look: Look, refused: str) -> tuple[Finding, Finding]:
    """What worked; `refused`: a way that did not, empty where none was tried."""
    ability, told, outcome = "client authentication", "a token was issued and accepted", "asks for tokens this way"
    line = Line(("oauth", "client_authentication"), way, told)
    evidence = f"{told}; {refused} was refused" if refused else told
    let_through = Line(("http", "media_type"), media_type, "let through")
    return (
        Finding("", ability, way, evidence, outcome, "certain", (line,)),
        Finding(
            "", "media type", content_type(look), f"asked for {media_type}", "reads both", "certain", (let_through,)
        ),
    )
