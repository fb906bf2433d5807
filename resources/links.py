"""Addresses on one API, and links that it sends: which may be followed with a token.

What lives here: the origin that a token never leaves. What does not: requests (`exchange`), where in a document a link stands (`pages`).
Source: JSON:API 1.1, links.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import httpx

from resources.errors import BrokenAnswerError


class Links:
    """The addresses of one API: paths below `base_url`, which ends with a slash, and links to the same origin."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._origin = _origin(base_url)

    @property
    def is_encrypted(self) -> bool:
        """Whether the API is asked over TLS."""
        return self._origin[0] == "https"

    def address(self, path: str) -> str:
        """The address of a path of the API."""
        return urljoin(self.base_url, path)

    def target(self, link: object, base: str | None = None) -> str | None:
        """Where a link leads, from `base` if it is relative; None where it leads nowhere. It is a string, an object with `href`, or null.

        Raises `BrokenAnswerError` where it cannot be followed, or leads to another origin.
        """
        if isinstance(link, dict):
            link = link.get("href")
        if link is None or link == "":
            return None
        if not isinstance(link, str):
            raise BrokenAnswerError(f"The next link is neither text nor an object with href: {type(link).__name__}.")
        try:
            url = urljoin(base or self.base_url, link)
            is_ours = _origin(url) == self._origin
            httpx.URL(url)
        except (ValueError, httpx.InvalidURL):
            raise BrokenAnswerError("The next link is no address that can be followed.") from None
        if not is_ours:
            raise BrokenAnswerError(
                f"A next link leads to another origin ({shown_origin(url)}); it was not followed, so that no token leaves "
                f"{shown_origin(self.base_url)}."
            )
        return url


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def shown_origin(url: str) -> str:
    """The origin of an address, for people: without user, path and query, which may hold secrets."""
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"
