"""The token endpoint (RFC 6749 section 4.4) and the check of bearer tokens (RFC 6750). Lifetimes are judged by the world clock."""

import base64
import binascii
import secrets
from collections import Counter
from hmac import compare_digest
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from .messages import ApiError, Request, Response
from .state import State
from .switches import Switches

TOKEN_PATH = "/oauth/token"


class _RefusedError(Exception):
    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


def _basic(header: str) -> tuple[str, str]:
    """Client id and secret out of an Authorization header; each was form-urlencoded before it was joined."""
    scheme, _, text = header.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise _RefusedError("invalid_client", "The Authorization header is not Basic") from error
    if scheme.lower() != "basic" or not colon:
        raise _RefusedError("invalid_client", "The Authorization header is not Basic")
    return unquote_plus(client_id), unquote_plus(secret)


def _credentials(request: Request, form: dict[str, str], allowed: str) -> tuple[str, str]:
    header = request.headers.get("authorization")
    in_body = "client_secret" in form
    if header is not None and in_body:
        raise _RefusedError("invalid_request", "Authenticate in one way only")
    if header is not None and allowed in ("basic", "both"):
        return _basic(header)
    if in_body and allowed in ("post", "both"):
        return form.get("client_id", ""), form["client_secret"]
    raise _RefusedError("invalid_client", "Client authentication is missing or of an unsupported kind")


def _client_of(world: State, switches: Switches, request: Request, form: dict[str, str]) -> str:
    """The client id that a token request proves to be; raises where RFC 6749 wants a refusal."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise _RefusedError("invalid_request", "The body must be application/x-www-form-urlencoded")
    if request.pairs:
        raise _RefusedError("invalid_request", "Parameters belong in the body, not in the address")
    pairs = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    if any(count > 1 for count in Counter(name for name, _ in pairs).values()):
        raise _RefusedError("invalid_request", "A parameter is repeated")
    form.update(pairs)
    client_id, secret = _credentials(request, form, switches.client_authentication)
    client = world.clients.get(client_id)
    if client is None or client.revoked or not compare_digest(client.secret.encode(), secret.encode()):
        raise _RefusedError("invalid_client", "Unknown client or wrong secret")
    if "grant_type" not in form:
        raise _RefusedError("invalid_request", "grant_type is missing")
    if form["grant_type"] != "client_credentials":
        raise _RefusedError("unsupported_grant_type", "Only client_credentials is supported")
    return client_id


def token_response(world: State, switches: Switches, request: Request, form: dict[str, str]) -> Response:
    """Answers POST /oauth/token. `form` is filled with what the body holds, for the log."""
    if request.method != "POST":
        return Response(405, b"", {"Allow": "POST"})
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
    try:
        client_id = _client_of(world, switches, request, form)
    except _RefusedError as refusal:
        body = msgspec.json.encode({"error": refusal.error, "error_description": str(refusal)})
        if refusal.error == "invalid_client":
            return Response(401, body, headers | {"WWW-Authenticate": 'Basic realm="emulator"'})
        return Response(400, body, headers)
    token = "emu-" + secrets.token_hex(16)
    world.tokens[token] = (client_id, world.clock.ms() + switches.token_lifetime * 1000)
    answer: dict[str, object] = {"access_token": token, "token_type": "Bearer"}
    if switches.expires_in_sent:
        answer["expires_in"] = switches.token_lifetime
    return Response(200, msgspec.json.encode(answer), headers)


def authenticated_client(world: State, request: Request) -> str:
    """The client id behind a request's bearer token; 401 otherwise."""
    header = request.headers.get("authorization")
    if header is None:
        raise ApiError(401, "unauthorized", "A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"})
    scheme, _, token = header.partition(" ")
    client_id, expires = world.tokens.get(token.strip(), ("", 0))
    client = world.clients.get(client_id)
    if scheme.lower() != "bearer" or client is None or client.revoked or world.clock.ms() >= expires:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiError(401, "invalid_token", "The access token is unknown or has expired.", headers=challenge)
    return client_id
