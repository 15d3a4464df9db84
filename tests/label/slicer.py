"""What 3D Slicer's module does, with its own client, which opens files and connections that it does not close."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from monailabel.client.client import MONAILabelClient, MONAILabelClientException  # noqa: E402 - it takes the module cgi


def client(url: str, token: dict | None = None) -> MONAILabelClient:
    """Return a client of its own for every request."""
    client = MONAILabelClient(url, client_id="user-xyz")
    assert client.auth_enabled()
    client.update_auth(token)
    return client


def refused(call, *arguments) -> bool:
    try:
        call(*arguments)
    except MONAILabelClientException:
        return True
    return False


def main(url: str, password: str, model: str, image: str, app: str) -> None:
    assert refused(client(url).auth_token, "anybody", "guess")
    assert refused(client(url).next_sample, "first", {})
    token = client(url).auth_token("anybody", password)
    assert not client(url).auth_valid_token()
    assert client(url, token).auth_valid_token()
    assert client(url, token).info()["name"] == "custom_networks"
    assert client(url, token).next_sample("first", {})["id"] in set("abcd")
    session = client(url, token).create_session(image)["session_id"]
    assert client(url, token).get_session(session)["image"].startswith(f"{app}/sessions")
    options = {"device": "cpu", "result_extension": ".nrrd", "result_dtype": "uint8"}
    file, params = client(url, token).infer(model, "3: a volume of mine", options, session_id=session)
    assert Path(file).stat().st_size > 0
    assert params["label_names"]
    client(url, token).remove_session(session)
    assert client(url, token).train_stop() is None
    assert not client(url, token).train_status(check_if_running=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
