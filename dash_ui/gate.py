"""Who may ask the server for what: rules over the first line and the headers of a request, before its body is read.

The server listens to this machine alone. A page of somebody else in the same browser can still send it requests, under
its own name (``Origin``) or, when a name server plays along, under a name of its own for this machine (DNS rebinding,
``Host``). So the host must be a name of this machine or a bare address, which no name server can hand out, and a
request that names its origin must name this server. On another host than this machine every request needs the token,
as a cookie after the first one.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

__all__ = ["LIMIT", "Gate", "Refusal", "headers_of", "is_local", "policy"]

LIMIT = 512 * 1024 * 1024  # bytes of a request, which holds an upload in a form that takes a third more than the file
LOCAL = ("localhost", "127.0.0.1", "::1")
METHODS = ("GET", "HEAD", "POST")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: the status of HTTP and a sentence for people."""

    status: int
    reason: str
    text: str


@dataclass(frozen=True)
class Gate:
    """The rules of one server.

    ``names``: host names under which it may be asked for, besides addresses. ``token``: what every request must show,
    None where none is needed. ``limit``: bytes that a request may have. ``cookie``: name of the cookie with the token.
    """

    names: frozenset[str] = frozenset(LOCAL)
    token: str | None = field(default=None, repr=False)
    limit: int = LIMIT
    cookie: str = "onnxprune"

    def refusal(self, method: str, query: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is refused, None where it is answered. ``headers``: by name in small letters."""
        if method not in METHODS:
            return Refusal(405, "Method Not Allowed", f"{method} is not answered here.")
        host = headers.get("host", "")
        if not self.knows(host):
            return Refusal(
                421,
                "Misdirected Request",
                f"This server does not go by the name {host!r}. Open it by its address, or as localhost.",
            )
        if _foreign(method, host, headers):
            return Refusal(403, "Forbidden", "Another site sent this request; only this server's own pages may.")
        if self.token is not None and not (self.shown(query) or self._carried(headers)):
            return Refusal(401, "Unauthorized", "Open the address with the token that `onnxprune ui` printed.")
        return self._too_large(headers.get("content-length", "0"))

    def _too_large(self, length: str) -> Refusal | None:
        if not length.isdecimal() or len(length) > 18:
            return Refusal(400, "Bad Request", "The length of the request is no number.")
        if int(length) <= self.limit:
            return None
        return Refusal(
            413,
            "Content Too Large",
            f"The upload has {int(length) / 1e6:,.0f} MB, and {self.limit / 1e6:,.0f} MB is the most. "
            "Copy the file into the folder of the workspace instead.",
        )

    def knows(self, host: str) -> bool:
        """Whether a ``Host`` is this machine: one of its names, or an address."""
        name = host_name(host)
        if name is None:
            return False
        if name in self.names:
            return True
        return self.token is not None and _is_address(name)

    def shown(self, query: str) -> bool:
        """Whether the address shows the token."""
        return any(self._right(value) for value in parse_qs(query).get("token", ()))

    def _carried(self, headers: Mapping[str, str]) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in cookies and self._right(cookies[self.cookie].value)

    def _right(self, value: str) -> bool:
        return self.token is not None and hmac.compare_digest(value.encode(), self.token.encode())

    def set_cookie(self) -> str:
        """The cookie that spares showing the token again."""
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"


def without_token(query: str) -> str:
    """The query of an address after the token was shown."""
    left = [(name, value) for name, values in parse_qs(query).items() if name != "token" for value in values]
    return urlencode(left)


def host_name(host: str) -> str | None:
    """``localhost:8050`` -> ``localhost``, ``[::1]:8050`` -> ``::1``; None for what is no host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    plain = parts.netloc == host and parts.username is None and not parts.path and "@" not in host
    return parts.hostname if plain else None


def is_local(host: str) -> bool:
    """Whether only programs on this machine can reach a server that listens there."""
    return host in LOCAL or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _foreign(method: str, host: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another site is behind the request. A link there to a page of ours is fine."""
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return True
    site = headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin"):
        return False
    return method != "GET" or headers.get("sec-fetch-mode") != "navigate" or headers.get("sec-fetch-dest") != "document"


def policy(scripts: Iterable[str]) -> str:
    """What a page of ours may load: from this server only. ``scripts``: hashes of the scripts inside the page.

    Figures style their elements by attribute, which only 'unsafe-inline' for styles allows; they are drawn from
    ``data:`` and saved through ``blob:``.
    """
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(("'self'", *scripts)),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "object-src": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def headers_of(content_policy: str) -> list[tuple[str, str]]:
    """Headers of every answer."""
    return [
        ("Content-Security-Policy", content_policy),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ]
