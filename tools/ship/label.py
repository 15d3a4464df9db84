"""Serve bundles with MONAI Label."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle, task_of, version_of
from custom_networks.files import checksum
from custom_networks.workflow.guard.interrupts import Terminated
from tools import ROOT
from tools.ship.label_process import run_group

APP = Path(__file__).with_name("label_app")
PYTHON = ROOT / ".venv-label" / "bin" / "python"
IMAGES = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha")
WEIGHTS = "models/model.pt"
CAME_WITH = "weights_came_with.sha256"
"""The checksum of the weights that a copy of a bundle was made with, which may be gone by now."""
KNOWN = "models/training_data.json"
"""What the weights were trained on, where that is described: what an image is compared with."""
NO_TOKEN = "none"
SHORTEST_TOKEN = 16
PACKED = ("LICENSE", "configs", "docs", WEIGHTS, "custom_networks")


def serve(
    *bundles: str,
    studies: str,
    epistemic: str | None = None,
    app: str = "runs/label",
    host: str = "127.0.0.1",
    port: int = 8000,
    python: str | None = None,
    token: str | None = None,
    allow_origin: str | None = None,
    allow_delete: bool = False,
    allow_upload: bool = False,
    max_body: float = 2.0,
) -> None:
    """Prepare an app folder with the bundles and run the MONAI Label server until it is stopped.

    The app folder keeps its copies of the bundles: a training in the viewer writes the weights there, and the next
    start goes on with them. Nothing is downloaded. Whatever writes needs the token that is printed; from another
    machine everything does. Pages of other sites are kept out. Ctrl-C, SIGTERM and SIGKILL end the server with all
    that it has started.

    Args:
        bundles: names or folders of the bundles.
        studies: folder of the images; the labels are written into its folder ``labels``.
        epistemic: name of the bundle whose uncertainty orders the images (strategy "epistemic").
        app: folder for the app.
        host: address to listen on.
        port: port to listen on.
        python: interpreter of the environment with MONAI Label; that of ``make venv-label`` if None.
        token: the token; made anew if None. The word "none" leaves it out, on this machine's own address only.
        allow_origin: addresses, with commas between them, whose pages may use the server and whose names it answers to.
        allow_delete: whether images, labels and weights may be deleted, and images replaced, through the server.
        allow_upload: whether weights may be sent to the server.
        max_body: largest request in gigabytes.

    Raises:
        ValueError: if a bundle does not exist or has no weights, the app folder holds another version of it, there are
            no images, the port is taken, or the token is short or left out where other machines reach the server.
        FileNotFoundError: if there is no such interpreter.
        RuntimeError: if the server fails.
        KeyboardInterrupt: after SIGTERM, when the server has ended.
    """
    interpreter = Path(python) if python else PYTHON
    if not interpreter.is_file():
        raise FileNotFoundError(f"there is no MONAI Label at {interpreter}; run: make venv-label")
    images = Path(studies)
    if not any(path for pattern in IMAGES for path in images.glob(pattern)):
        raise ValueError(
            f"there is no image ({', '.join(IMAGES)}) in {images}; give the folder of the images as --studies"
        )
    if not bundles:
        raise ValueError("give the names of one bundle or more")
    folders = [find_bundle(bundle) for bundle in bundles]
    names = [folder.name for folder in folders]
    segmentation = [folder.name for folder in folders if task_of(folder) == "segmentation"]
    if epistemic is not None and epistemic not in segmentation:
        raise ValueError(
            f"epistemic must be a segmentation bundle that is served, got {epistemic}; use one of {', '.join(names)}"
        )
    front = front_settings(token, host, allow_origin, max_body)
    check_port(host, port)
    folder = prepare(Path(app), bundles)
    shutil.copyfile(APP / "main.py", folder / "main.py")
    shutil.rmtree(folder / "label_server", ignore_errors=True)
    shutil.copytree(APP / "label_server", folder / "label_server", ignore=shutil.ignore_patterns("__pycache__"))
    print(f"MONAI Label for {', '.join(names)} at http://{shown_host(host)}:{port}; stop it with Ctrl-C", flush=True)
    if front["token"]:
        print(f"To log in, give any name and as password the token {front['token']}", flush=True)
    front |= {"allow_delete": allow_delete, "allow_upload": allow_upload}
    command, environment = start_command(interpreter, folder, images, names, epistemic, host, port, front)
    try:
        code = run_group(command, environment, folder)
    except Terminated:
        raise
    except KeyboardInterrupt:
        return
    if code:
        raise RuntimeError(
            f"the MONAI Label server ended with exit code {code}; its log is {folder / 'logs' / 'app.log'}"
        )


def front_settings(token: str | None, host: str, allow_origin: str | None, max_body: float) -> dict[str, Any]:
    """Return what the front of the server is told, see ``label_app/label_server/front/settings.py``.

    Args:
        token: the token, None for a new one, or "none".
        host: address to listen on.
        allow_origin: addresses with commas between them.
        max_body: largest request in gigabytes.

    Raises:
        ValueError: if one of them cannot be.
    """
    token = secrets.token_urlsafe(24) if token is None else str(token)
    if token == NO_TOKEN and not is_loopback(host):
        raise ValueError(
            f"--token {NO_TOKEN} is for this machine's own address, got --host {host}; leave one of the two out"
        )
    if token != NO_TOKEN and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(f"--token must be {SHORTEST_TOKEN} ASCII characters or more, got {len(token)}; leave it out")
    origins = [origin.strip().rstrip("/") for origin in (allow_origin or "").split(",") if origin.strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s@*]+", origin):
            raise ValueError(f"--allow-origin must be an address such as http://viewer:3000, got {origin}; correct it")
    if not isinstance(max_body, (int, float)) or max_body <= 0:
        raise ValueError(f"--max-body must be gigabytes above 0, got {max_body}; 2 is usual")
    return {
        "token": "" if token == NO_TOKEN else token,
        "host": host,
        "origins": origins,
        "max_body": int(max_body * 1000**3),
    }


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own, which no other machine reaches.

    Args:
        host: name or address.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Args:
        host: address.
        port: port.

    Raises:
        ValueError: if it is taken or does not exist.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            try:
                _listen(family, kind, protocol, (address[0], port, *address[2:]))
            except OSError as error:
                # localhost has an address of IPv6 where there is no IPv6; the server goes on without it, too.
                if len(found) == 1 or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise ValueError(
            f"cannot listen on {shown_host(host)}:{port} ({getattr(error, 'strerror', None) or error}); give another "
            + ("--port and another --app" if taken else "--host or --port")
        ) from error


def _listen(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> None:
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


def shown_host(host: str) -> str:
    """Return an address as it stands before a port.

    Args:
        host: name or address.
    """
    return f"[{host}]" if ":" in host else host


def prepare(app: Path, bundles: Sequence[str]) -> Path:
    """Copy the bundles, each with its ``custom_networks``, into an app folder; copies of the same version stay.

    A copy that has nothing to do with the weights of its bundle is told of.

    Args:
        app: folder for the app.
        bundles: names or folders of the bundles.

    Returns:
        The absolute path of the app folder.

    Raises:
        ValueError: if a bundle does not exist or has no weights, two have the same name, or the folder holds another
            version of one.
    """
    folders = [find_bundle(bundle) for bundle in bundles]
    named: dict[str, Path] = {}
    for source in folders:
        if source.name in named:
            raise ValueError(
                f"two bundles are called {source.name}, {named[source.name]} and {source}; give one, or rename the "
                "folder of one"
            )
        named[source.name] = source
        if not (source / WEIGHTS).is_file():
            raise ValueError(f"{source} has no weights; train it first: python -m tools bundles train {source.name}")
        target = app / "model" / source.name
        if target.exists() and version_of(target) != version_of(source):
            raise ValueError(
                f"{target} is version {version_of(target)} of the bundle, not {version_of(source)}, and may hold "
                "weights that were trained in the viewer; move it away, or give another --app"
            )
    for source in folders:
        target = app / "model" / source.name
        if target.exists():
            if not _has_seen(target, checksum(source / WEIGHTS)):
                print(
                    f"{target} holds other weights than {source}, and these are served; move it away to take those",
                    flush=True,
                )
            continue
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for name in PACKED:
            path = source / name if (source / name).exists() else ROOT / name
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, partial / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(path, partial / name)
        known = source / KNOWN
        if known.is_file():
            shutil.copyfile(known, partial / KNOWN)
        (partial / CAME_WITH).write_text(checksum(partial / WEIGHTS))
        partial.rename(target)
    return app.resolve()


def _has_seen(copy: Path, weights: str) -> bool:
    """Return whether a copy serves weights, has kept them, or was made with them."""
    came_with = copy / CAME_WITH
    if came_with.is_file() and came_with.read_text() == weights:
        return True
    return weights in map(checksum, (copy / "models").glob("*.pt"))


def start_command(
    python: Path,
    app: Path,
    studies: Path,
    names: Sequence[str],
    epistemic: str | None,
    host: str,
    port: int,
    front: dict[str, Any] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts the server, and its environment.

    Args:
        python: interpreter.
        app: the app folder.
        studies: folder of the images.
        names: the bundles.
        epistemic: the bundle whose uncertainty is the score, if any.
        host: address.
        port: port.
        front: settings of the front; None for an app that has none, such as the stock one.
    """
    conf = {"models": ",".join(names), "zoo_source": "local", "sam2": "false"}
    if epistemic:
        conf["epistemic_model"] = epistemic
    # The script `monailabel` takes whatever `python` comes first on the path, and so does torchrun.
    command = [str(python.absolute()), "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(studies.resolve()), "--host", host, "--port", str(port)]
    for key, value in conf.items():
        command += ["--conf", key, value]
    path = os.pathsep.join([str(python.absolute().parent), os.environ.get("PATH", "")])
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment = {"MONAI_LABEL_SESSIONS": "false", "HF_HUB_OFFLINE": "1", **kept, "PATH": path}
    if front is None:
        return command, environment
    sessions = str(app / "sessions")
    environment |= {
        "PYTHONPATH": str(app),
        "MONAI_LABEL_SESSIONS": "true",
        "MONAI_LABEL_SESSION_PATH": sessions,
        "MONAI_LABEL_AUTH_ENABLE": "false",  # the front has the login
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(IMAGES),
        "LABEL_SERVER_FRONT": json.dumps({**front, "studies": str(studies.resolve()), "sessions": sessions}),
    }
    return [*command, "--uvicorn_app", "label_server.app:app"], environment
