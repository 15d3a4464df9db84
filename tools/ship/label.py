"""Serve bundles with MONAI Label."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from custom_networks.bundle_folder import find_bundle, task_of, version_of
from custom_networks.workflow.guard.interrupts import Terminated
from tools import ROOT
from tools.ship.label_process import run_group

APP = Path(__file__).with_name("label_app")
PYTHON = ROOT / ".venv-label" / "bin" / "python"
IMAGES = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha")
KNOWN = "models/training_data.json"
"""What the weights were trained on, where that is described: what an image is compared with."""
PACKED = ("LICENSE", "configs", "docs", "models/model.pt", "custom_networks")


def serve(
    *bundles: str,
    studies: str,
    epistemic: str | None = None,
    app: str = "runs/label",
    host: str = "127.0.0.1",
    port: int = 8000,
    python: str | None = None,
) -> None:
    """Prepare an app folder with the bundles and run the MONAI Label server until it is stopped.

    The app folder keeps its copies of the bundles: a training in the viewer writes the weights there, and the next
    start goes on with them. Nothing is downloaded. The server has no password: leave ``host`` at this machine's own
    address unless the network is trusted. Ctrl-C and SIGTERM end the server with all that it has started.

    Args:
        bundles: names or folders of the bundles.
        studies: folder of the images; the labels are written into its folder ``labels``.
        epistemic: name of the bundle whose uncertainty orders the images (strategy "epistemic").
        app: folder for the app.
        host: address to listen on.
        port: port to listen on.
        python: interpreter of the environment with MONAI Label; that of ``make venv-label`` if None.

    Raises:
        ValueError: if a bundle does not exist or has no weights, the app folder holds another version of it, there are
            no images, or the port is taken.
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
    check_port(host, port)
    folder = prepare(Path(app), bundles)
    shutil.copyfile(APP / "main.py", folder / "main.py")
    shutil.rmtree(folder / "label_server", ignore_errors=True)
    shutil.copytree(APP / "label_server", folder / "label_server", ignore=shutil.ignore_patterns("__pycache__"))
    print(f"MONAI Label for {', '.join(names)} at http://{host}:{port}; stop it with Ctrl-C", flush=True)
    command, environment = start_command(interpreter, folder, images, names, epistemic, host, port)
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


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on.

    Args:
        host: address.
        port: port.

    Raises:
        ValueError: if it is taken or does not exist.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"cannot listen on {host}:{port} ({error.strerror}); give another --port") from error


def prepare(app: Path, bundles: Sequence[str]) -> Path:
    """Copy the bundles, each with its ``custom_networks``, into an app folder; copies of the same version stay.

    Args:
        app: folder for the app.
        bundles: names or folders of the bundles.

    Returns:
        The absolute path of the app folder.

    Raises:
        ValueError: if a bundle does not exist or has no weights, or the folder holds another version of it.
    """
    folders = [find_bundle(bundle) for bundle in bundles]
    for source in folders:
        if not (source / "models" / "model.pt").is_file():
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
        partial.rename(target)
    return app.resolve()


def start_command(
    python: Path, app: Path, studies: Path, names: Sequence[str], epistemic: str | None, host: str, port: int
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
    return command, {"MONAI_LABEL_SESSIONS": "false", "HF_HUB_OFFLINE": "1", **kept, "PATH": path}
