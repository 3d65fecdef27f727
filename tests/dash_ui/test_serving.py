"""Who may ask the server for what, over real connections: every refusal, and what every answer says."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from dash_ui.gate import Gate, host_name, is_local, policy, without_token
from dash_ui.serving import Guarded, Server, listen
from onnxprune.errors import OptionError

TOKEN = "correct-horse"  # noqa: S105 - of these tests only


def echo(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
    """An app that says how much it was sent."""
    body = environ["wsgi.input"].read()  # type: ignore[attr-defined]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"path": environ["PATH_INFO"], "bytes": len(body)}).encode()]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(echo, port=0, limit=1000, content_policy=policy(())) as running:
        running.start()
        yield running


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that asks for a token."""
    with Server(echo, port=0, token=TOKEN) as running:
        running.start()
        yield running


def ask(
    server: Server, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()


def raw(server: Server, text: bytes) -> bytes:
    """What the server says to these bytes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while piece := connection.recv(4096):
            found += piece
        return found


def test_a_page_of_its_own_is_answered(server: Server) -> None:
    own = f"127.0.0.1:{server.port}"
    assert ask(server)[0] == 200
    assert ask(server, Host=f"localhost:{server.port}")[0] == 200
    status, _, text = ask(server, "/_dash", "POST", b"x" * 999, Origin=f"http://{own}", Sec_Fetch_Site="same-origin")
    assert (status, json.loads(text)["bytes"]) == (200, 999)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7", "localhost@evil.example", ""]
)
def test_another_name_for_this_machine_is_refused(server: Server, host: str) -> None:
    status, _, text = ask(server, Host=host)
    assert status == 421
    assert "localhost" in text


def test_a_request_without_a_host_is_refused(server: Server) -> None:
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 421")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_another_site_is_refused(server: Server, method: str, origin: str) -> None:
    status, _, text = ask(server, "/", method, b"" if method == "POST" else None, Origin=origin)
    assert status == 403
    assert "Another site" in text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_embeds_is_refused_and_its_links_are_followed(server: Server, site: str) -> None:
    assert ask(server, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script")[0] == 403
    assert ask(server, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")[0] == 403
    assert ask(server, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")[0] == 200
    form = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(server, "/", "POST", b"a=1", **form)[0] == 403


def test_other_methods_are_refused(server: Server) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert ask(server, "/", method)[0] == 405


def test_a_large_upload_is_refused_before_it_is_read(server: Server) -> None:
    head = f"POST / HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: 800000000\r\n\r\n"
    answer = raw(server, head.encode())  # not one byte of it is sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"The upload has 800 MB, and 0 MB is the most" in answer
    assert b"Copy the file into the folder" in answer


def test_a_refused_body_is_not_read(server: Server) -> None:
    head = f"POST / HTTP/1.1\r\nHost: evil.example:{server.port}\r\nContent-Length: 900\r\n\r\n"
    assert raw(server, head.encode()).startswith(b"HTTP/1.1 421")


def test_a_large_upload_in_chunks_ends_at_the_limit(server: Server) -> None:
    head = f"POST / HTTP/1.1\r\nHost: localhost:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answer = raw(server, head + b"800\r\n" + b"x" * 0x800 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999"])
def test_a_length_that_is_none_is_refused(server: Server, length: str) -> None:
    head = f"POST / HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: {length}\r\n\r\n"
    assert raw(server, head.encode()).startswith(b"HTTP/1.1 400")


def test_every_answer_says_what_a_browser_may_do(server: Server) -> None:
    for headers in (ask(server)[1], ask(server, "/nothing")[1]):
        rules = headers["content-security-policy"]
        assert "default-src 'none'" in rules
        assert "frame-ancestors 'none'" in rules
        assert "unsafe" not in rules.split("script-src")[1].split(";")[0]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


class TestToken:
    def test_without_it_nothing_is_answered(self, guarded: Server) -> None:
        for path in ("/", "/_dash-layout", "/_now?token=", "/?token=wrong", f"/?token={TOKEN}x"):
            status, _, text = ask(guarded, path)
            assert status == 401
            assert TOKEN not in text
        assert ask(guarded, "/", Cookie=f"onnxprune-{guarded.port}=wrong")[0] == 401
        assert ask(guarded, "/", Cookie='a="; b')[0] == 401

    def test_it_becomes_a_cookie_and_leaves_the_address(self, guarded: Server) -> None:
        status, headers, text = ask(guarded, f"/?step=2&token={TOKEN}&group=a%22b")
        assert status == 200
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert 'url=/?step=2&amp;group=a%22b"' in text
        assert TOKEN not in text
        assert ask(guarded, "/_dash-layout", Cookie=cookie.split(";")[0])[0] == 200

    def test_it_opens_addresses_but_no_foreign_names(self, guarded: Server) -> None:
        cookie = f"onnxprune-{guarded.port}={TOKEN}"
        assert ask(guarded, Host="192.168.1.7:8050", Cookie=cookie)[0] == 200
        assert ask(guarded, Host="[fe80::1]:8050", Cookie=cookie)[0] == 200
        assert ask(guarded, Host="evil.example", Cookie=cookie)[0] == 421
        assert ask(guarded, "/", "POST", b"", Origin="http://evil.example", Cookie=cookie)[0] == 403

    def test_another_host_always_has_one(self) -> None:
        with Server(echo, host="0.0.0.0", port=0) as server:  # noqa: S104
            assert server.gate.token is not None
            assert len(server.gate.token) >= 32
            assert server.url.endswith(f"/?token={server.gate.token}")
            assert "0.0.0.0" not in server.url  # noqa: S104
            assert server.gate.token not in repr(server.gate)
        with Server(echo, port=0) as server:
            assert server.gate.token is None


def test_a_taken_port_gives_the_next_one() -> None:
    with closing(listen("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with Server(echo, port=port) as server:
            assert server.taken
            assert server.port > port
            server.start()
            assert ask(server)[0] == 200


def test_a_host_that_is_none() -> None:
    with pytest.raises(OptionError, match="no address of this machine"):
        listen("no-such-machine.invalid", 0)
    with pytest.raises(OptionError, match="cannot listen"):
        listen("192.0.2.1", 0)


def test_it_ends_while_connections_are_open() -> None:
    with Server(echo, port=0) as server:
        server.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().read()
        server.close()
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_the_gate_holds_around_the_app_as_well() -> None:
    """Where another server than Waitress calls it."""
    said: list[str] = []
    app = Guarded(echo, Gate(limit=10), [])
    environ = {"REQUEST_METHOD": "POST", "HTTP_HOST": "evil.example", "CONTENT_LENGTH": "3"}
    assert b"does not go by the name" in b"".join(app(environ, lambda status, _: said.append(status)))
    environ = {"REQUEST_METHOD": "POST", "HTTP_HOST": "localhost", "CONTENT_LENGTH": "11"}
    assert b"Copy the file" in b"".join(app(environ, lambda status, _: said.append(status)))
    assert said == ["421 Misdirected Request", "413 Content Too Large"]


def test_hosts() -> None:
    assert host_name("localhost:80") == "localhost"
    assert host_name("[::1]:8050") == "::1"
    assert host_name("LOCALHOST") == "localhost"
    for text in ("a@localhost", "localhost/x", "localhost:x", "[::1", "localhost?a", "localhost#a", " localhost"):
        assert host_name(text) != "localhost", text
    assert all(map(is_local, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.0.2", "example.org")))  # noqa: S104
    assert without_token("a=1&token=x&b=2&a=3") == "a=1&a=3&b=2"
