"""Requests, responses and the error that becomes a response: what the other modules hand to each other. No sockets."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec


@dataclass(slots=True)
class Request:
    """One request as it arrived; header names are in lower case. `query` holds the last value where a parameter is repeated."""

    method: str
    target: str
    path: str
    pairs: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def query(self) -> dict[str, str]:
        """The query parameters by name, decoded."""
        return dict(self.pairs)


@dataclass(slots=True)
class Response:
    """One response; `Date` and `Content-Length` are added when it is sent."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Logged(NamedTuple):
    """An answered request. For the token endpoint `query` is the form without the secret; status 0 means the connection was reset."""

    method: str
    path: str
    query: dict[str, str]
    status: int


class ApiError(Exception):
    """Ends a request with a JSON:API error document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        parameter: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.parameter, self.headers = parameter, headers or {}

    def body(self) -> bytes:
        """The error document."""
        error: dict[str, object] = {
            "status": str(self.status),
            "code": self.code,
            "title": self.code.replace("_", " ").capitalize(),
            "detail": self.detail,
        }
        if self.parameter is not None:
            error["source"] = {"parameter": self.parameter}
        return msgspec.json.encode({"jsonapi": {"version": "1.1"}, "errors": [error]})


def bad_parameter(parameter: str, detail: str = "The parameter is not supported by this endpoint.") -> ApiError:
    """400 for a parameter."""
    return ApiError(400, "invalid_query_parameter", detail, parameter=parameter)
