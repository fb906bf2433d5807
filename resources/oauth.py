"""OAuth 2.0 client credentials as an `httpx.Auth`: one token for each API client, asked for once however many threads need it.

What lives here: asking for a token, keeping it in memory, renewing it. What does not: retry rules (`retries`), sending (`exchange`).
Sources: RFC 6749 sections 2.3.1, 4.4, 5.1, 5.2; RFC 6750 section 3.1; evidence section 6.2. Units: seconds of a monotonic clock.
Errors: `ClientRefusedError` where repeating cannot help, `TroubleError` (to be retried) elsewhere.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
import time
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import msgspec

from resources.contract import OAuth
from resources.errors import ClientRefusedError
from resources.retries import TooLargeError, TroubleError, may_pass
from resources.settings import ClientSettings

RENEWALS_PER_REQUEST = 5
TOKENS_REMEMBERED = 100
# A longer lifetime, in however many digits a server writes it, counts as this one.
LONGEST_LIFETIME_S = 366 * 86_400
# How many letters of the server's own words are quoted in a message.
QUOTED = 600
_CREDENTIALS = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=%-]{8,}", re.IGNORECASE)
# RFC 6749 section 5.2; all of them need a person.
PERMANENT_ERRORS = {
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
}
# The second is what a common gateway (Apigee) calls it.
BEARER = ("bearer", "bearertoken")
SCOPE_CURE = (
    ". Give it the scope that it asks for in the contract: oauth.scope (several in one text, with spaces between)."
)
ADDRESS_CURE = "; is APPOINTEDD_TOKEN_URL right?"
# Nobody issues tokens at an address that answers so, whatever the secret.
ELSEWHERE = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.GONE)
CURE = (
    "Check the client id and secret. A secret is shown only once, when the API client is made, so a lost one cannot be read again: "
    "make a new one in Appointedd (Connect, API connection, API V2). Only the person who made an API client can edit it."
)


@dataclass
class _Token:
    value: str = field(repr=False)
    renew_at: float | None
    has_served: bool = False


class ClientCredentials(httpx.Auth):
    """Adds a bearer token to each request of one API client, and renews it when it must.

    `send` sends the token request and returns the answer. Nothing is repeated here: a `TroubleError` leaves that to whoever sends the request itself.
    The secret is read when a token is asked for and kept nowhere else; `repr` shows the API client's name.
    """

    requires_response_body = False

    def __init__(
        self,
        client: ClientSettings,
        token_url: str,
        contract: OAuth,
        send: Callable[[httpx.Request], httpx.Response],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._token_url = token_url
        self._contract = contract
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._refused: ClientRefusedError | None = None
        # The first address that gave what was asked for: as a rule the account list, which is read first.
        self._answered: httpx.URL | None = None
        # The latest tokens: a server may quote one in an answer, and no message may repeat it (`hide`).
        self._issued: deque[_Token] = deque(maxlen=TOKENS_REMEMBERED)

    def __repr__(self) -> str:
        """Name only: no id, no secret, no token."""
        return f"ClientCredentials({self._client.name!r})"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx's own hook: the request goes out with a token, and after each 401 again with a new one, five times at most.

        A 401 may be about the token or about this one address. So a token that is refused before it has served is tried at an address that has answered
        before. If it is taken there, it is good: a further 401 is the answer to this request, and other requests go on.
        """
        refused: _Token | None = None
        for count in range(1, RENEWALS_PER_REQUEST + 2):
            token = self._current(refused)
            request.headers["Authorization"] = f"Bearer {token.value}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                token.has_served = True
                if response.is_success and self._answered is None:
                    self._answered = request.url
                return
            _leave_unread(response)  # gives its connection back: the token request may need one while this thread waits
            refused = token
            is_old = token.has_served or (count == 1 and self._answered is not None)
            if is_old and count <= RENEWALS_PER_REQUEST:
                continue  # it has expired, or was revoked
            if self._answered is None:
                break
            elsewhere = yield httpx.Request("GET", self._answered, headers=request.headers)
            _leave_unread(elsewhere)
            if elsewhere.is_success and count > RENEWALS_PER_REQUEST:
                raise ClientRefusedError(
                    f"API client {self._client.name!r}: the API refused {count} tokens in turn for {request.method} {request.url.path}, and took the last "
                    f"one for {self._answered.path}. The API client may not read this; its creator can change its permissions."
                )
            if elsewhere.is_success:
                token.has_served = True
                yield request  # httpx returns the last answer, so it must be this request's; a 401 now means what a 403 does
                return
        if count == 1:
            raise self._end("the API refuses a token that its own token endpoint has just issued")
        raise self._end(f"the API refused {count} tokens in turn for one request")

    def hide(self, text: str) -> str:
        """What a server wrote, fit to be quoted: one line of bounded length, without any token and without the secret, however it is spelt.

        Hand in the whole text, or one cut well beyond `QUOTED`: the rest of a secret that was cut in two is not known for one.
        """
        secret = self._client.client_secret.get_secret_value()
        for hidden in (
            *(token.value for token in self._issued),
            self._basic(),
            base64.b64encode(f"{self._client.client_id}:{secret}".encode()).decode(),
            *_spellings(secret),
        ):
            text = text.replace(hidden, "***")
        # In one line: a line end would begin a line of the log, or a "problem:", that the server has written.
        text = " ".join(_CREDENTIALS.sub(r"\1 ***", text).split())
        return text if len(text) <= QUOTED else text[:QUOTED] + "…"

    def _basic(self) -> str:
        # Form-urlencoded first, then joined (RFC 6749 section 2.3.1): httpx.BasicAuth would leave out the first step.
        secret = self._client.client_secret.get_secret_value()
        pair = f"{quote_plus(self._client.client_id)}:{quote_plus(secret)}"
        return base64.b64encode(pair.encode()).decode()

    def _current(self, refused: _Token | None) -> _Token:
        """The token to use; one thread asks for a new one while the others wait for it."""
        with self._lock:
            if self._refused:
                raise self._refused
            token = self._token
            if token is refused:
                token = None
            if token is None or (token.renew_at is not None and self._clock() >= token.renew_at):
                token = self._token = self._ask()
                self._issued.append(token)
            return token

    def _end(self, reason: str, cure: str = f". {CURE}") -> ClientRefusedError:
        self._refused = ClientRefusedError(f"API client {self._client.name!r}: {reason}{cure}")
        return self._refused

    def _token_request(self) -> httpx.Request:
        form = {"grant_type": "client_credentials"}
        if self._contract.scope:
            form["scope"] = self._contract.scope
        headers = {"Accept": "application/json"}
        if self._contract.client_authentication == "basic":
            headers["Authorization"] = "Basic " + self._basic()
        else:
            form |= {
                "client_id": self._client.client_id,
                "client_secret": self._client.client_secret.get_secret_value(),
            }
        return httpx.Request("POST", self._token_url, data=form, headers=headers)

    def _ask(self) -> _Token:
        # A traceback may be shown with its variables, so neither here nor in what is called may one hold the secret or a token while an error can be raised.
        asked_at = self._clock()
        try:
            response = self._send(self._token_request())
        except TooLargeError as large:
            raise self._end(f"the token endpoint's answer is no token: {large}", ADDRESS_CURE) from None
        status, answer = response.status_code, _Answer.of(response.content)
        # Some answer 201, and some 200 to a request that they refuse.
        if response.is_success and answer.has_token:
            return self._read(answer, asked_at)
        told = self.hide(answer.told)
        if answer.error in PERMANENT_ERRORS or status == httpx.codes.UNAUTHORIZED:
            cure = SCOPE_CURE if answer.error == "invalid_scope" else f". {CURE}"
            raise self._end(f"the token endpoint refuses it: {told or f'HTTP {status}'}", cure)
        words = f" ({told})" if told else ""
        if status >= 300 and not may_pass(status):
            is_elsewhere = status in ELSEWHERE or status < 400
            cure = ADDRESS_CURE if is_elsewhere else f"{ADDRESS_CURE} {CURE}"
            raise self._end(f"the token endpoint answered HTTP {status}{words}", cure)
        raise TroubleError(
            f"the token endpoint answered HTTP {status}{words} without a usable token",
            # A 200 that holds no token is a broken body, which is worth repeating; a status would forbid it.
            status=None if response.is_success else status,
            retry_after=response.headers.get("Retry-After"),
            date=response.headers.get("Date"),
        )

    def _read(self, answer: _Answer, asked_at: float) -> _Token:
        if not answer.is_bearer:
            kind = self.hide(str(answer.members.get("token_type")))
            raise self._end(
                f"the token endpoint issues tokens of type {kind!r}; this product can use bearer tokens only"
            )
        value, lifetime = answer.members["access_token"], answer.members.get("expires_in")
        if isinstance(lifetime, str) and lifetime.isdecimal():
            lifetime = float(lifetime)
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or lifetime <= 0:
            return _Token(value, None)  # no lifetime told: it is renewed when it is refused (evidence G5)
        lifetime = min(lifetime, LONGEST_LIFETIME_S)
        # Never more than half the lifetime, or a short-lived token would be renewed before every request.
        return _Token(value, asked_at + lifetime - min(self._contract.leeway_seconds, lifetime / 2))


def _leave_unread(response: httpx.Response) -> None:
    """End an answer whose body is of no use: httpx would read it whole, whatever its length, before it sends the request again."""
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream.close()
    response.stream = httpx.ByteStream(b"")


def _spellings(secret: str) -> list[str]:
    """A secret as it may come back: plain, percent-encoded as this and that language does, escaped for HTML and JSON, in base64."""
    encoded = [quote_plus(secret), quote(secret), quote(secret, safe=""), quote(secret, safe="!'()*")]
    lower = [re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), text) for text in encoded]
    in_base64 = [base64.b64encode(secret.encode()).decode(), base64.urlsafe_b64encode(secret.encode()).decode()]
    escaped = [html.escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1]]
    return sorted({secret, *encoded, *lower, *in_base64, *escaped}, key=len, reverse=True)


@dataclass(repr=False)
class _Answer:
    """The token endpoint's JSON object, empty where its answer is none; its members are not shown."""

    members: dict[str, Any]

    @classmethod
    def of(cls, body: bytes) -> _Answer:
        try:
            value = msgspec.json.decode(body.removeprefix(BOM_UTF8))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None  # not an error here: the caller judges an answer without JSON by its status
        return cls(value if isinstance(value, dict) else {})

    @property
    def error(self) -> str:
        return str(self.members.get("error"))

    @property
    def has_token(self) -> bool:
        """Whether there is a token that a header can carry: one with a space at its end, say, would be quoted by the HTTP library's own complaint."""
        value = self.members.get("access_token")
        return (
            isinstance(value, str)
            and value != ""
            and value == value.strip()
            and value.isascii()
            and value.isprintable()
        )

    @property
    def is_bearer(self) -> bool:
        kind = self.members.get("token_type")
        return not isinstance(kind, str) or kind.lower() in BEARER

    @property
    def told(self) -> str:
        """What the server says is wrong: in the members of RFC 6749 section 5.2, or of RFC 9457 and habit; empty where it says nothing."""
        words = (self.members.get(name) for name in ("error", "error_description", "message", "title", "detail"))
        return " ".join(word for word in words if isinstance(word, str) and word)
