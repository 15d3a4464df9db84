"""How the front is set up; ``python -m tools label serve`` hands it over in one environment variable."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "LABEL_SERVER_FRONT"
"""The settings as JSON."""
BEHIND = "LABEL_SERVER_BEHIND_FRONT"
"""The token, or a word in its place, where a front stands: for the app and for the processes that it starts."""
ADDRESS = "LABEL_SERVER_ADDRESS"
"""Where those processes reach the server, without the port."""
EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What stands for every address, and one of them."""


@dataclass(frozen=True)
class Settings:
    """What is allowed.

    Args:
        studies: folder of the images.
        sessions: folder of the images that viewers have sent without adding them to the studies.
        token: what every request that writes must bring; empty for none.
        host: address that the server listens on.
        origins: other origins whose pages may use the server, such as ``http://viewer:3000``.
        allow_delete: whether images and labels may be deleted, images replaced, and weights deleted.
        allow_upload: whether weights may be sent.
        max_body: largest body in bytes.
    """

    studies: str
    sessions: str
    token: str = ""
    host: str = "127.0.0.1"
    origins: tuple[str, ...] = ()
    allow_delete: bool = False
    allow_upload: bool = False
    max_body: int = 2 * 1000**3

    @classmethod
    def from_environment(cls) -> Settings:
        """Take the settings out of the environment, and leave in it what the app's own processes need.

        Raises:
            RuntimeError: if there are none.
        """
        text = os.environ.pop(VARIABLE, "")
        if not text:
            raise RuntimeError(f"{VARIABLE} is not set; start the server with: python -m tools label serve")
        options = json.loads(text)
        os.environ[BEHIND] = options.get("token") or "none"
        settings = cls(**{**options, "origins": tuple(options.get("origins", ()))})
        address = EVERY.get(settings.host, settings.host)
        os.environ[ADDRESS] = f"[{address}]" if ":" in address else address
        return settings

    @property
    def local(self) -> bool:
        """Whether the server listens on this machine only."""
        return is_loopback(self.host)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders whose files a request may name."""
        return Path(self.studies), Path(self.sessions)


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own, which no other machine reaches.

    Args:
        host: name or address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("viewer")
        (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
