"""Keeping people out: keys, a rate for each client, and what a browser may do with an answer.

Everything here is plain ASGI around the application, decides from a request's head alone, and refuses before a byte of
its body is read. `protect` puts it together.
"""

import hmac
import ipaddress
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

import limits
from cachetools import TTLCache
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ForbiddenError, RateLimitError, UnauthorizedError
from app.problems import STATUSES, Kind, error_response, kind_of, problem_response
from app.reid.errors import ReidError
from app.settings import Settings

# OpenAPI: how a key is sent, where the operator asks for one.
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
RELOAD_PATH = "/model/reload"
PAGE_PATH, STATIC_PREFIX = "/", "/static/"
HEALTH_PATHS = frozenset({"/health/live", "/health/ready"})
# Clients that are counted at the same time. Of more, those that were quiet longest start anew.
MAX_CLIENTS = 65_536

_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_ANSWER_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SENT_HEADERS = ("Authorization", "X-API-Key", "Prefer", "X-Request-ID")
_SHOWN_HEADERS = (
    "X-Request-ID", "X-Model-Version", "Server-Timing", "Location", "Preference-Applied", "Retry-After",
    "Content-Disposition",
)  # fmt: skip
_CROSS_ORIGIN = Kind(400, "cross-origin", "A page from elsewhere may not call this")


def protect(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application behind all that `settings` ask for.

    From outside: security headers, which errors get as well; CORS, whose preflights carry no key; the rate, which
    counts wrong keys too; the keys.
    """
    keyring = Keyring(settings.api_keys, settings.admin_key)
    app = ApiKeys(PrintablePaths(app), keyring)
    if settings.rate_limit is not None:
        app = RateLimit(app, settings.rate_limit, keyring)
    if settings.cors_origins:
        app = CrossOrigin(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=_SENT_HEADERS,
            expose_headers=_SHOWN_HEADERS,
        )
    return SecurityHeaders(app, cross_origin=bool(settings.cors_origins))


@dataclass(frozen=True)
class Caller:
    """Who sent a known key, by the key's sha256."""

    digest: bytes
    is_admin: bool


class Keyring:
    """The keys that the operator gave out, kept as digests: of one length, and nothing to print by mistake."""

    def __init__(self, keys: Iterable[SecretStr], admin_keys: Iterable[SecretStr]) -> None:
        """A key that is in both is an admin's."""
        self._admins = [Caller(_digest(key.get_secret_value().encode()), is_admin=True) for key in admin_keys]
        self._users = [Caller(_digest(key.get_secret_value().encode()), is_admin=False) for key in keys]

    @property
    def is_asked_for(self) -> bool:
        """Whether ordinary calls need a key."""
        return bool(self._users)

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin key."""
        return bool(self._admins)

    def caller(self, scope: Scope) -> Caller | None:
        """Who sends this request; None without a known key.

        `Authorization: Bearer KEY` and `X-API-Key: KEY` count alike. Where both come, one that is known is enough, and
        an admin's goes first. Of a header that comes twice the first counts, so that a request is two guesses at most.
        """
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = [token if scheme.lower() == "bearer" else "", headers.get("x-api-key", "")]
        # Not strip() alone: in Latin-1, which headers are read as, it would take the end off a key in UTF-8.
        found = [self._find(key.encode("latin-1")) for part in sent if (key := part.strip(" \t"))]
        return max(filter(None, found), key=lambda caller: caller.is_admin, default=None)

    def _find(self, key: bytes) -> Caller | None:
        digest = _digest(key)
        # All keys are compared, whichever fits: the time that it takes tells nothing.
        fits = [caller for caller in (*self._admins, *self._users) if hmac.compare_digest(caller.digest, digest)]
        return fits[0] if fits else None


class ApiKeys:
    """Asks for a key, everywhere but at the probes and the page; where no key was given out, for none.

    `POST /model/reload` needs an admin key in any case.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        """Wraps an application."""
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401 or 403."""
        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        await (error_response(refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ReidError | None:
        path: str = scope["path"]
        if path == RELOAD_PATH and scope.get("method") == "POST":
            return self._reload_refusal(scope)
        if _is_open(path) or not self._keyring.is_asked_for or self._keyring.caller(scope):
            return None
        return UnauthorizedError("A key that is known is needed: Authorization: Bearer KEY, or X-API-Key: KEY.")

    def _reload_refusal(self, scope: Scope) -> ReidError | None:
        if not self._keyring.has_admin:
            return ForbiddenError("Reloading needs an admin key, and the service was started without JAGUAR_ADMIN_KEY.")
        caller = self._keyring.caller(scope)
        if caller is None:
            return UnauthorizedError("Reloading needs the admin key: Authorization: Bearer KEY, or X-API-Key: KEY.")
        return None if caller.is_admin else ForbiddenError("Reloading needs the admin key; an API key is not enough.")


class RateLimit:
    """Lets so many requests of one client through in a stretch of time that begins with the first of them.

    A client is a known key; without one, an IPv4 address or an IPv6 /64. Behind a proxy that is the proxy's unless
    uvicorn trusts it (`proxy_headers` with `forwarded_allow_ips`) and sets `scope["client"]` from X-Forwarded-For.
    Probes are not counted, nor is the page, some 45 files a visit. Each process counts for itself, from zero when it
    starts. Across two stretches a client can get twice the number through; the memory is one number a client.

    `limits` reads the text only: its memory storage (5.8) has no bound, its moving window keeps a client for good.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit: str,
        keyring: Keyring,
        max_clients: int = MAX_CLIENTS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wraps an application. `limit` is, for example, `100/minute`; `timer` tells seconds. Raises ValueError."""
        self._app = app
        self._text = limit
        self._keyring = keyring
        self._timer = timer
        parsed = limits.parse(limit)
        self._most, self._stretch_s = parsed.amount, parsed.get_expiry()
        self._stretches: TTLCache[bytes, _Stretch] = TTLCache(max_clients, self._stretch_s, timer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 429 and when to come again."""
        is_counted = scope["type"] != "lifespan" and not _is_open(scope["path"])
        wait_s = self._wait_s(self._client(scope)) if is_counted else 0
        if not wait_s:
            await self._app(scope, receive, send)
            return
        error = RateLimitError(f"More than {self._text} of one client; come again in {wait_s} s.", wait_s)
        response = problem_response(kind_of(error), str(error), headers={"Retry-After": str(error.retry_after_s)})
        await response(scope, receive, send)

    def _client(self, scope: Scope) -> bytes:
        caller = self._keyring.caller(scope)
        return caller.digest if caller else _network(scope)

    def _wait_s(self, client: bytes) -> int:
        """Counts one more request; whole seconds until it may come again, 0 for at once."""
        now = self._timer()
        stretch = self._stretches.get(client)
        if stretch is None:
            stretch = self._stretches[client] = _Stretch(now + self._stretch_s)
        stretch.requests += 1
        return 0 if stretch.requests <= self._most else max(1, math.ceil(stretch.ends - now))


@dataclass(slots=True)
class _Stretch:
    ends: float
    requests: int = 0


class PrintablePaths:
    """Answers 404 to a path with a line end or another control character in it.

    Starlette's routes end in `$`, which fits before a last line end as well: `/model/reload%0A` would reach the reload,
    yet be another path to everybody who compares paths.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wraps an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 404."""
        if scope["type"] == "lifespan" or scope["path"].isprintable():
            await self._app(scope, receive, send)
            return
        kind = STATUSES[404]
        await problem_response(kind, f"{kind.title}.")(scope, receive, send)


class CrossOrigin(CORSMiddleware):
    """Starlette's CORS, which refuses in plain text, with problems."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """200, or 400 with what is not allowed: the origin, the method or a header."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        headers = {"Vary": response.headers["Vary"]}
        return problem_response(_CROSS_ORIGIN, f"{bytes(response.body).decode()}.", headers=headers)


class SecurityHeaders:
    """Tells browsers to guess no types, to frame nothing, to run only the page's own scripts and to keep nothing.

    A header that an answer has already stays as it is.
    """

    def __init__(self, app: ASGIApp, *, cross_origin: bool) -> None:
        """Wraps an application. `cross_origin`: pages from elsewhere may read answers, which CORS then rules."""
        self._app = app
        self._headers = _HEADERS if cross_origin else {**_HEADERS, "Cross-Origin-Resource-Policy": "same-origin"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers through the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _PAGE_POLICY if _is_page(scope["path"]) else _ANSWER_POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for name, value in {**self._headers, "Content-Security-Policy": policy}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _is_page(path: str) -> bool:
    return path == PAGE_PATH or path.startswith(STATIC_PREFIX)


def _is_open(path: str) -> bool:
    """Anybody may ask for this, as often as they like: the probes, the page and its files."""
    return path in HEALTH_PATHS or _is_page(path)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _network(scope: Scope) -> bytes:
    """Whose requests are counted together: an address, or of IPv6 the half that a provider gives to one customer."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a Unix socket, or whatever a trusted proxy wrote: hashed, so that its length is known
        return _digest(host.encode())
    if isinstance(address, ipaddress.IPv4Address):
        return address.packed
    return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed[:8]
