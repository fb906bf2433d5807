"""HTTP/1.1 on an asyncio protocol with httptools: bytes in, bytes out. What is answered is decided by the handler it is given."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools

from .faults import Outcome
from .messages import Request, Response

Handler = Callable[[Request], Outcome]
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends a reset and drops what the other side has not read
_TIME_TO_READ_S = 0.005  # a reset overtakes what was sent before it; so the other side first gets a moment to read
_REASONS = {status.value: status.phrase for status in HTTPStatus}


def head_of(response: Response, length: int, *, close: bool) -> bytes:
    """Status line and headers. A header with an empty value is left out."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if value]
    lines.append(f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """One client connection; its requests are answered one after the other."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: deque[tuple[Request, bool]] = deque()  # with whether the connection is to be kept
        self._busy = False

    # ---- asyncio -----------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._server.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has gone."""
        self._server.connections.discard(self)
        self._server.in_flight -= len(self._waiting) + self._busy
        self._waiting.clear()
        self._busy = False
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.abort()
            raise  # a fault of the emulator itself must be seen
        except httptools.HttpParserError:
            self.abort()

    def abort(self) -> None:
        """Cut the connection with a reset."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()

    # ---- httptools ---------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """The address, perhaps in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        target = self._url.decode("latin-1")
        path, _, text = target.partition("?")
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=target,
            path=unquote(path),
            pairs=parse_qsl(text, keep_blank_values=True),
            headers=self._headers,
            body=b"".join(self._body),
        )
        self._waiting.append((request, self._parser.should_keep_alive()))
        server = self._server
        server.in_flight += 1
        server.max_in_flight = max(server.max_in_flight, server.in_flight)
        self._next()

    # ---- answering ---------------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        request, keep_alive = self._waiting.popleft()
        outcome = self._server.handler(request)
        if outcome.delay > 0:
            asyncio.get_running_loop().call_later(outcome.delay, self._send, request, outcome, keep_alive)
        else:
            self._send(request, outcome, keep_alive)

    def _send(self, request: Request, outcome: Outcome, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None:
            return  # the client did not wait; connection_lost has settled the books
        response = outcome.response
        if response is None:
            self.abort()
            return
        body = response.body
        head = head_of(response, len(body), close=not keep_alive)
        if outcome.keep is not None:
            transport.write(head + body[: outcome.keep])
            if outcome.hard:
                asyncio.get_running_loop().call_later(_TIME_TO_READ_S, self.abort)
            else:
                transport.close()
            return
        if outcome.drip is not None and body:
            transport.write(head)
            step = max(1, -(-len(body) // outcome.drip.pieces))
            pause = outcome.drip.seconds / outcome.drip.pieces
            self._drip([body[n : n + step] for n in range(0, len(body), step)], pause, keep_alive)
            return
        transport.writelines([head, body] if request.method != "HEAD" else [head])
        if outcome.hang_up:
            asyncio.get_running_loop().call_later(_TIME_TO_READ_S, self.abort)
            return
        self._end(keep_alive)

    def _drip(self, pieces: list[bytes], pause: float, keep_alive: bool) -> None:
        if self._transport is None:
            return  # the client did not wait
        self._transport.write(pieces[0])
        if len(pieces) > 1:
            asyncio.get_running_loop().call_later(pause, self._drip, pieces[1:], pause, keep_alive)
        else:
            self._end(keep_alive)

    def _end(self, keep_alive: bool) -> None:
        """The answer is on its way: take the next request, or close."""
        self._busy = False
        self._server.in_flight -= 1
        if keep_alive:
            self._next()
        elif self._transport is not None:
            self._transport.close()


class Server:
    """Listens in a daemon thread of its own."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1", port: int = 0) -> None:
        self.handler = handler
        self.host, self.port = host, port
        self.connections: set[Connection] = set()
        self.in_flight = 0
        self.max_in_flight = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: OSError | None = None

    def start(self) -> None:
        """Listen; returns when the port is open and known."""
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Close the port and all connections; returns when that is done."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # it may have ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._thread = None

    def _run(self) -> None:
        try:
            import uvloop

            self._loop = uvloop.new_event_loop()
        except ImportError:
            self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Connection(self), self.host, self.port)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        listener.close()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)  # lets the transports say goodbye before the loop is closed
        await listener.wait_closed()
