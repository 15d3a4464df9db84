"""The token, and the login by which 3D Slicer gets it.

Slicer's module asks ``GET /auth/`` before every request. Where that says so, it opens a dialog for a name and a
password, sends both to ``POST /auth/token``, and sends what it gets as ``Authorization`` from then on. The password is
the token.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from urllib.parse import parse_qs

from label_server.front.refusals import Refusal

ASK = (("www-authenticate", 'Basic realm="MONAI Label: any name, the token as password"'),)


def check_token(authorization: str, token: str) -> None:
    """Refuse a request without the token.

    Args:
        authorization: the header, bearer or basic; the user of basic does not matter.
        token: the token.

    Raises:
        Refusal: 401.
    """
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "basic":
        try:
            credentials = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            credentials = ""
    elif scheme.lower() != "bearer":
        credentials = ""
    if not _equal(credentials, token):
        raise Refusal(
            401,
            "this needs the token that the server printed at its start; send it as Authorization: Bearer, or log in "
            "with any name and the token as password",
            ASK,
        )


def login(form: bytes, token: str) -> dict[str, str]:
    """Return what a viewer sends from now on.

    Args:
        form: name and password, as a browser encodes a form.
        token: the token.

    Raises:
        Refusal: 401 for another password.
    """
    password = parse_qs(form.decode("utf-8", "replace")).get("password", [""])[-1]
    if not _equal(password.strip(), token):
        raise Refusal(401, "the password is not the token that the server printed at its start; copy it from there")
    return {"access_token": token, "token_type": "bearer"}


def _equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())
