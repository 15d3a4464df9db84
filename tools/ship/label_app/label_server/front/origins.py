"""Which names the server answers to, and whose pages may use it.

A page of any site may send requests to a server on this machine. The browser says which page it was, in ``Origin`` and
``Sec-Fetch-Site``. A site that lets its own name point to this machine is told by ``Host``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from label_server.front.refusals import Refusal, shown
from label_server.front.settings import EVERY, Settings, is_loopback

METHODS = "GET, HEAD, POST, PUT, DELETE"
HEADERS = "authorization, content-type"


def check_host(host: str, settings: Settings) -> None:
    """Refuse a request that was sent to another name than this server's.

    Args:
        host: the header ``Host``.
        settings: of the front.

    Raises:
        Refusal: 403 if it is none of the loopback names, what ``--host`` names, or the host of an allowed origin. Where
            the server listens on every address, each address will do: a page can bend names, not addresses.
    """
    name = hostname(f"//{host}")
    named = {settings.host.lower(), *(hostname(origin) for origin in settings.origins)}
    if name and (is_loopback(name) or name in named or (settings.host in EVERY and _is_address(name))):
        return
    raise Refusal(
        403,
        f"this server does not answer to the name {shown(host)}; use http://127.0.0.1, or start it with "
        "--allow-origin and the address that is typed",
    )


def check_origin(headers: Mapping[str, str], settings: Settings) -> list[tuple[str, str]]:
    """Refuse what a page of another origin asks for.

    Args:
        headers: of the request.
        settings: of the front.

    Returns:
        The headers that let a page of an allowed origin read the answer.

    Raises:
        Refusal: 403 for another origin.
    """
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
            raise Refusal(403, "another site asks for this; open the address itself, or start with --allow-origin")
        return []
    if origin in settings.origins:
        return [("access-control-allow-origin", origin), ("vary", "Origin")]
    if origin.lower() in (f"http://{headers.get('host', '')}".lower(), f"https://{headers.get('host', '')}".lower()):
        return []
    raise Refusal(
        403,
        f"pages of {shown(origin)} may not use this server; start it with --allow-origin {shown(origin)} if they may",
    )


def preflight(allowed: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that answer a browser's question before a page's request.

    Args:
        allowed: of :func:`check_origin`.

    Raises:
        Refusal: 405 if no page of an allowed origin asks.
    """
    if not allowed:
        raise Refusal(405, "OPTIONS is for pages of other origins only; use GET")
    return [
        *allowed,
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", HEADERS),
        ("access-control-max-age", "600"),
    ]


def hostname(address: str) -> str:
    """Return the host of an address in lower case, or nothing where it has none.

    Args:
        address: with its scheme, or with two slashes in front.

    Example:
        >>> hostname("http://Viewer:3000"), hostname("//[::1]:8000"), hostname("//a b")
        ('viewer', '::1', '')
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return ""
    plain = parts.username is None and not parts.path.strip("/") and not parts.query and not parts.fragment
    return (parts.hostname or "") if plain and not set(parts.netloc) & set(" \t") else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
