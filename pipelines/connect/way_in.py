"""The way in: addresses, the token request that works, the media type that is let through.

What lives here: what must be right before the first list can be asked for. What does not: any question about lists. A secret goes to the token address of the
settings only, whatever a file says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.connect.findings import Finding, Learned, Line
from pipelines.connect.probe import Probe
from resources.appointedd import ApiClient, Look
from resources.contract import Contract
from resources.errors import ClientRefusedError, SettingsError
from resources.openapi import Description
from resources.settings import ApiAccess, Settings

PLAIN = "application/json"


def access_of(settings: Settings, description: Description | None) -> ApiAccess:
    """The settings' access; where an address is missing and the file has it, the lines for .env: a secret is sent to no address that only a file names."""
    lines = []
    if description is not None:
        if settings.appointedd_base_url is None and description.servers:
            lines.append(f"APPOINTEDD_BASE_URL={description.servers[0].url}")
        if settings.appointedd_token_url is None and description.token_url:
            lines.append(f"APPOINTEDD_TOKEN_URL={description.token_url}")
    if lines:
        raise SettingsError(
            f"{description.source if description else ''} names the addresses that the settings lack. If they are the vendor's own, put them into .env:\n"
            + "\n".join(lines)
        )
    return settings.api_access()


def addresses(access: ApiAccess, description: Description | None) -> Iterator[Finding]:
    """What the settings and the file say of addresses and API clients."""
    if len(access.clients) > 1:
        others = ", ".join(c.name for c in access.clients[1:])
        first = access.clients[0].name
        yield Finding(
            "",
            "API clients",
            f"{len(access.clients)}",
            f"asked with {first}; not asked with {others}",
            "uses them all",
            "likely",
        )
    if description is None:
        return
    yield Finding(
        "",
        "OpenAPI file",
        f"{description.title} {description.version}".strip(),
        f"{len(description.lists)} lists described in {description.source}",
        "nothing: each name was tried",
        "certain",
    )
    for name, ours, theirs in (
        ("base address", access.base_url, description.servers[0].url if description.servers else None),
        ("token address", access.token_url, description.token_url),
    ):
        if theirs is not None and theirs.rstrip("/") != ours:
            yield Finding("", name, ours, f"the file says {theirs}", "uses the setting", "low")


class WayIn:
    """The way in: an API client whose token request works: the ways of authenticating are tried, the likeliest first."""

    def __init__(
        self,
        settings: Settings,
        contract: Contract,
        description: Description | None,
        access: ApiAccess,
        learned: Learned,
    ) -> None:
        self._settings, self._contract, self._learned = settings, contract, learned
        own = contract.oauth.client_authentication
        told = description.client_authentication if description else None
        self._ways = list(dict.fromkeys([*([told] if told else []), own, "basic", "post"]))
        self._first = access.clients[0]
        self._path = contract.streams["accounts"].path
        self._client: ApiClient | None = None

    def __enter__(self) -> Probe:
        """A probe with a token; raises `ClientRefusedError` where no way of asking for one works."""
        refusals: list[ClientRefusedError] = []
        count = 0
        for way in self._ways:
            oauth = self._contract.oauth.model_copy(update={"client_authentication": way})
            http = self._contract.http
            client = ApiClient(self._first, self._settings, self._contract.model_copy(update={"oauth": oauth}))
            try:
                count += 1
                look = client.look(self._path, {})
                if look.status in (406, 415):  # the media type is not acceptable: plain JSON may be
                    http = http.model_copy(update={"media_type": PLAIN})
                    client.close()
                    count += 1
                    changed = self._contract.model_copy(update={"oauth": oauth, "http": http})
                    client = ApiClient(self._first, self._settings, changed)
                    look = client.look(self._path, {})
            except ClientRefusedError as error:
                client.close()
                refusals.append(error)
                continue
            self._tell(way, http.media_type, look, refusals)
            self._client = client
            probe = Probe(client)
            probe.keep(self._path, look, count)
            return probe
        raise refusals[0]

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _tell(self, way: str, media_type: str, look: Look, refusals: Sequence[ClientRefusedError]) -> None:
        sent = look.headers.get("content-type", "no content type").partition(";")[0]
        self._learned.add(
            Finding(
                "",
                "client authentication",
                way,
                "a token was issued and accepted" + (f"; {self._ways[0]} was refused" if refusals else ""),
                "asks for tokens this way",
                "certain",
                (Line(("oauth", "client_authentication"), way, "a token was issued and accepted"),),
            ),
            Finding(
                "",
                "media type",
                sent,
                f"asked for {media_type}",
                "reads both",
                "certain",
                (Line(("http", "media_type"), media_type, "let through"),),
            ),
        )
