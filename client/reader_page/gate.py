"""The gate before the page: who may ask, from where, and how much; every answer leaves with the same headers.

Without a proxy the page is for the person who started it: its address holds a token drawn at every start, so that
neither another user of the machine nor a page of another site can guess one of its addresses. With a proxy the page
answers nobody else, and takes the user's name from the header that ``site.yaml`` names.
"""

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.deployment.reader_section import Proxy

MAX_BODY_BYTES = 2**14
_MAX_PATH = 512
_MAX_USER = 100
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Films and names of patients stay in no cache of a browser or proxy.
    "Cache-Control": "no-store",
}
Refusal = tuple[HTTPStatus, str]


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who is answered."""

    hosts: frozenset[str]
    """By which ``host`` or ``host:port`` the page is asked; another name that leads here is DNS rebinding."""
    user: str | None
    """The operating system's; None where the proxy says who asks."""
    token: str | None
    """First part of every path; None behind a proxy."""
    proxy: Proxy | None

    @property
    def prefix(self) -> str:
        """What every path begins with; no slash at its end."""
        return "" if self.token is None else f"/{self.token}"


class Gate:
    """An ASGI application that passes requests on to ``app``, with the user in their state, or refuses them."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what the server says of its own start and end."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None:
            user = self._user(scope)
            if user is None:
                refusal = HTTPStatus.FORBIDDEN, "Expected the proxy to say who asks."
            else:
                scope.setdefault("state", {})["user"] = user
                prefix = self._access.prefix
                scope = {**scope, "path": scope["path"][len(prefix) :], "raw_path": b"", "root_path": ""}
                await self._app(scope, receive, send)
                return
        status, reason = refusal
        await PlainTextResponse(reason, status)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
        client, access = scope.get("client"), self._access
        if access.proxy is not None and (client is None or client[0] != access.proxy.address):
            return HTTPStatus.FORBIDDEN, "Expected to be asked by the hospital's proxy."
        if [name for name, _ in scope["headers"]].count(b"host") != 1 or headers["host"].lower() not in access.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, "Expected to be asked by the name under which this page is served."
        path = scope["path"]
        if len(path) > _MAX_PATH or not _begins_with(path, access.prefix):
            return HTTPStatus.NOT_FOUND, "Expected an address as the page was started with; it changes at every start."
        if not _is_own(scope["method"], headers, access.hosts):
            return HTTPStatus.FORBIDDEN, "Expected a request of this page, not of another."
        return _body_refusal(scope["method"], headers)

    def _user(self, scope: Scope) -> str | None:
        if self._access.proxy is None:
            return self._access.user
        name = self._access.proxy.user_header.lower().encode()
        named = [value.decode("latin-1").strip() for header, value in scope["headers"] if header == name]
        # Of two the proxy wrote one, and nobody can tell which.
        is_plain = len(named) == 1 and 0 < len(named[0]) <= _MAX_USER and named[0].isprintable()
        return named[0] if is_plain else None


def _begins_with(path: str, prefix: str) -> bool:
    start = path[: len(prefix)].encode("utf-8", "surrogateescape")
    return hmac.compare_digest(start, prefix.encode()) and path[len(prefix) : len(prefix) + 1] == "/"


def _is_own(method: str, headers: Mapping[str, str], hosts: Collection[str]) -> bool:
    """Return whether a request comes from the page itself, or opens it."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() not in hosts:
        return False
    if method in {HTTPMethod.GET, HTTPMethod.HEAD}:
        # A link on another page may open this one, and nothing else of it.
        return site in {None, "none", "same-origin"} or headers.get("sec-fetch-dest") == "document"
    return site == "same-origin" or (site is None and origin is not None)


def _body_refusal(method: str, headers: Mapping[str, str]) -> Refusal | None:
    if method in {HTTPMethod.GET, HTTPMethod.HEAD}:
        return None
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected a body of JSON."
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > MAX_BODY_BYTES:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected a body of at most {MAX_BODY_BYTES} bytes."
    return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending
