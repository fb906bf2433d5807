"""How bytes come over the wire: connections, the proxy and the certificates that the environment names, bodies read within their limits.

What lives here: bytes. What does not: what is asked for and repeated (`exchange`), what is believed of it (`appointedd`), tokens (`oauth`), what a body says
(`answers`, `envelope`).
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from resources.errors import SettingsError
from resources.retries import StoppedError, TooLargeError, TroubleError

TIMEOUT = httpx.Timeout(60.0, connect=15.0)
# A page of a hundred bookings with everything in it is below 1 MiB. Beyond 64 MiB, decoded, it is no page that anybody meant to send, and decoding a few
# of them side by side would take the memory of a small machine.
MOST_BYTES = 64 * 1024 * 1024
MOST_TOKEN_BYTES = 1024 * 1024
# A body that drips in byte by byte never meets the time-out of a single read.
LONGEST_BODY_S = 300.0
# What is asked for. Each piece from the socket is at most 64 KiB and grows a thousandfold at most, so the limit on bodies holds for compressed ones too.
ENCODINGS = ("", "identity", "gzip", "deflate")

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATE_CURE = (
    ". If the API stands behind a certificate authority of your own, name its certificate in SSL_CERT_FILE"
)
VALIDITY_CURE = (
    ". Look at the clock of this machine; if it is right, whoever runs that server must renew its certificate"
)
# Headers that are true of the body as it came over the wire, and no longer of the decoded one.
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")


class Connections:
    """httpx clients of one connection each, all alike; whoever sends takes one that is free.

    One client for all threads would look at each of its connections before every request, under one lock: at 32 side by side that cost a third of the CPU.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options | {"verify": _certificates(trust_env=options["trust_env"])}
        self._free: deque[httpx.Client] = deque()
        self.builder = self._new()
        self._free.append(self.builder)

    def _new(self) -> httpx.Client:
        try:
            return httpx.Client(**self._options)
        except (ValueError, ImportError, httpx.InvalidURL):
            # Its message may quote a piece of the proxy's password, so nothing of it is repeated.
            named = sorted(name for name, value in os.environ.items() if name.lower() in PROXY_VARIABLES and value)
            if not named or not self._options["trust_env"]:
                raise
            raise SettingsError(
                f"The proxy cannot be used as it stands in {' and '.join(named)}. Write http://host:port, with % codes for what is no letter in a user "
                f"name or password; NO_PROXY is a list of host names. SOCKS is not spoken: unset a variable that names such a proxy for this program."
            ) from None

    def proxy_of(self, url: httpx.URL) -> tuple[str, str] | None:
        """The proxy on the way to an address: the variable that names it, and its own address without user and password; None where there is none."""
        named = getproxies()
        kind = next((kind for kind in (url.scheme, "all") if named.get(kind)), None)
        if kind is None or not self._options["trust_env"] or proxy_bypass(url.host):
            return None
        variable, value = f"{kind}_proxy", named[kind]
        proxy = httpx.URL(value if "://" in value else f"http://{value}")
        return variable if variable in os.environ else variable.upper(), f"{proxy.scheme}://{proxy.netloc.decode()}"

    @contextmanager
    def one(self) -> Iterator[httpx.Client]:
        """One of them, for this thread alone."""
        try:
            client = self._free.pop()
        except IndexError:
            client = self._new()
        try:
            yield client
        finally:
            self._free.append(client)

    def close(self) -> None:
        """Close those that are free.

        One in which a stopped thread still hangs stays open: closing it would free the socket's number for the next file that is opened, and TLS would go
        on to read and write under that number. Such a thread ends with its request, or with the process.
        """
        for client in tuple(self._free):
            client.close()


def _certificates(*, trust_env: bool) -> ssl.SSLContext:
    """The certificate authorities, read once; raises `SettingsError` where they cannot be read."""
    try:
        return httpx.create_ssl_context(trust_env=trust_env)
    except OSError as error:  # ssl.SSLError is one
        named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)}
        if not named:
            raise
        told = " and ".join(f"{name} ({value})" for name, value in named.items())
        raise SettingsError(
            f"The certificate authorities cannot be read from {told}: {error.strerror or error}. Name a file in PEM form there, or unset it."
        ) from None


def go_on(stopped: threading.Event | None) -> None:
    """Raise `StoppedError` where the run is being stopped."""
    if stopped is not None and stopped.is_set():
        raise StoppedError("The run is being stopped, so this answer was not waited for.")


def whole(response: httpx.Response, most_bytes: int, stopped: threading.Event | None) -> httpx.Response:
    """The answer with its decoded body, read piece by piece, so that a body beyond the limit is never held whole; raises `TooLargeError`."""
    where = f"on {response.request.method} {response.request.url.path}"
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ENCODINGS:
        # Several encodings over one another would multiply what a small body can grow to.
        raise TroubleError(f"an answer in an encoding that was not asked for ({encoding[:40]}) {where}")
    pieces, size, deadline = [], 0, time.monotonic() + LONGEST_BODY_S
    for piece in response.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise TooLargeError(f"an answer of more than {most_bytes // 1024 // 1024} MiB {where}")
        if time.monotonic() > deadline:
            raise TroubleError(f"a body that took longer than {LONGEST_BODY_S:.0f} s {where}")
        go_on(stopped)
    # As bytes: httpx reads letters beyond ASCII in a header, and refuses to write them.
    headers = [(k, v) for k, v in response.headers.raw if k.lower() not in _OF_THE_WIRE]
    return httpx.Response(response.status_code, headers=headers, content=b"".join(pieces), request=response.request)
