"""The server: Waitress, listening to this machine, with a `Gate` in front of the app.

    with Server(create(folder).server) as server:
        server.run()        # until Ctrl-C; or server.start(), in a thread

The gate is asked twice, by the same rules: when the headers of a request are there, so that no body of a refused one is
read, and around the app, which holds for whichever server calls it.
"""

from __future__ import annotations

import errno
import html
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server
from waitress.utilities import Error

from dash_ui.gate import LIMIT, LOCAL, Gate, Refusal, headers_of, is_local, without_token
from onnxprune.errors import OptionError

__all__ = ["PORT", "Guarded", "Server", "listen"]

PORT = 8050
TRIES = 100  # ports after a taken one that are tried
THREADS = 8
BUFFER = 64 << 20  # bytes of an answer that are held in memory; Waitress stops taking more at 16 MiB
WAKE = 0.5  # seconds between two looks whether to stop

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class Guarded:
    """An app behind a gate: refused requests do not reach it, and every answer gets the headers."""

    def __init__(self, app: Application, gate: Gate, headers: Sequence[tuple[str, str]]) -> None:
        self._app, self._gate, self._headers = app, gate, list(headers)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        method, query = environ.get("REQUEST_METHOD", ""), environ.get("QUERY_STRING", "")
        refusal = self._gate.refusal(method, query, _headers(environ))
        if refusal is not None:
            body = f"{refusal.text}\n".encode()
            return self._say(start_response, f"{refusal.status} {refusal.reason}", "text/plain", body)
        if self._gate.token is not None and method == "GET" and self._gate.shown(query):
            return self._enter(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, *self._headers], *rest)

        return self._app(environ, start)

    def _enter(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The token becomes a cookie and leaves the address.

        By a page and not by a redirection: a browser that followed a link from elsewhere would not send the cookie.
        """
        left = without_token(environ.get("QUERY_STRING", ""))
        target = html.escape(f"/?{left}" if left else "/")
        body = f'<!doctype html><meta http-equiv="refresh" content="0;url={target}"><a href="{target}">onnxprune</a>'
        cookie = ("Set-Cookie", self._gate.set_cookie())
        return self._say(start_response, "200 OK", "text/html", body.encode(), cookie)

    def _say(
        self, start_response: StartResponse, status: str, kind: str, body: bytes, *headers: tuple[str, str]
    ) -> Iterable[bytes]:
        always = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(status, [*always, ("Cache-Control", "no-store"), *headers, *self._headers])
        return [body]


def _headers(environ: Environ) -> dict[str, str]:
    found = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    return found | {"content-length": environ.get("CONTENT_LENGTH") or "0"}


class Server:
    """One app on one port. ``host``: where it listens; another one than this machine needs a ``token``.

    ``port``: the first to try, 0 for any. ``taken``: the wanted port was in use, so that it is another one. Raises
    OptionError where it cannot listen at all.
    """

    def __init__(
        self, app: Application, *, host: str = "127.0.0.1", port: int = PORT, token: str | None = None,
        limit: int = LIMIT, content_policy: str = "default-src 'self'",
    ) -> None:  # fmt: skip
        if token is None and not is_local(host):
            token = secrets.token_urlsafe(32)
        self.host = host
        self._socket = listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.taken = port not in (0, self.port)
        names = frozenset(LOCAL) if is_local(host) else frozenset({*LOCAL, *_own_names(host)})
        self.gate = Gate(names, token, limit, f"onnxprune-{self.port}")
        self._map: dict[int, Any] = {}
        self._server = create_server(
            Guarded(app, self.gate, headers_of(content_policy)), map=self._map, sockets=[self._socket],
            threads=THREADS, ident="onnxprune", clear_untrusted_proxy_headers=True, max_request_body_size=limit + 1,
            channel_timeout=300, outbuf_overflow=BUFFER,
        )  # fmt: skip
        self._server.channel_class = _channel(self.gate)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a page asks for several things at once
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed."""
        host = {"0.0.0.0": _address(), "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - to be told apart
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{host}:{self.port}/" + (f"?token={self.gate.token}" if self.gate.token else "")

    def run(self) -> None:
        """Answer requests until `stop` is called, or until Ctrl-C, which is passed on."""
        try:
            while not self._stopping.is_set():
                wasyncore.loop(timeout=WAKE, use_poll=hasattr(wasyncore.select, "poll"), map=self._map, count=1)
        finally:
            self._server.task_dispatcher.shutdown()
            for channel in list(self._server.active_channels.values()):
                channel.handle_close()  # with its buffers
            wasyncore.close_all(self._map, ignore_all=True)

    def start(self) -> None:
        """Answer requests in a thread."""
        self._thread = threading.Thread(target=self.run, name="onnxprune-ui", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the requests that are being answered."""
        self._stopping.set()
        if self._thread is not None:
            with suppress(OSError):  # it has seen the event already, and closed what the trigger writes to
                self._server.pull_trigger()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """End, and give the port back."""
        self.stop()
        wasyncore.close_all(self._map, ignore_all=True)
        self._socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the first free port from ``port`` on. Raises OptionError."""
    last: OSError | None = None
    for candidate in range(port, port + TRIES if port else 1):
        if candidate > 65535:
            break
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, candidate, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            found = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            raise OptionError(f"--host: {host!r} is no address of this machine: {error}", "Try 127.0.0.1.") from error
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)
        except OSError as error:
            found.close()
            last = error
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise OptionError(
                    f"cannot listen on {host}:{candidate}: {error.strerror or error}", "Try another --host."
                ) from error
            continue
        return found
    raise OptionError(f"no port from {port} on is free on {host}: {last}", "Name another one with --port.")


class _Refused(Error):  # type: ignore[misc]
    """A refusal as Waitress answers it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.code, self.reason = refusal.status, refusal.reason

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, headers, body."""
        del ident
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
        return f"{self.code} {self.reason}", headers, f"{self.body}\n".encode()


def _channel(gate: Gate) -> type[Any]:
    """Waitress's connection with a parser that asks the gate as soon as the headers are there."""

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        def parse_header(self, header_plus: bytes) -> None:
            super().parse_header(header_plus)
            headers = {name.replace("_", "-").lower(): value for name, value in self.headers.items()}
            refusal = gate.refusal(self.command, self.query, headers)
            if refusal is not None:
                self.error = _Refused(refusal)
                self.body_rcv, self.content_length = None, 0  # its body is not read

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser

    return Channel


def _own_names(host: str) -> set[str]:
    """What this machine is called."""
    return {name.lower() for name in (host, socket.gethostname(), socket.getfqdn()) if name}


def _address() -> str:
    """The address under which others in the network find this machine; no packet is sent to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of documentation (RFC 5737)
            found: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    return found
