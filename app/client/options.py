"""What both clients begin with."""

import re
import ssl
from functools import cache
from typing import Any

import httpx2

from app.client.calls import Split
from app.client.errors import InputError
from app.client.exchange import Timeouts
from app.client.retries import Retries
from app.reid.errors import quote

default_retries, default_timeouts, default_split = Retries(), Timeouts(), Split()
# A service closes a connection that nobody used for 5 s; one that is used just then would break.
_KEEP_S = 2.0


def connection_options(base_url: str, api_key: str | None) -> dict[str, Any]:
    """For httpx2's clients.

    The key goes as `X-API-Key`, so that `Authorization` is free for a proxy's password in the address.

    Raises:
        InputError: the address is none, or the key cannot be sent.
    """
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise InputError(f"{quote(str(base_url))} is no address; write, for example, http://127.0.0.1:8000") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise InputError(
            f"{quote(str(base_url))} is no address of a service; write, for example, http://127.0.0.1:8000"
        )
    if api_key is not None and not re.fullmatch("[!-~]+", api_key):
        raise InputError("the key cannot be sent in a header; a key is printable ASCII characters without spaces")
    return {
        "verify": _trust(),
        "base_url": url,
        "headers": {"User-Agent": "jaguar-reid-client", **({"X-API-Key": api_key} if api_key else {})},
        "limits": httpx2.Limits(max_connections=None, keepalive_expiry=_KEEP_S),
    }


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that this machine trusts: a tenth of a second to load, so once and not for every client."""
    return httpx2.create_ssl_context()
