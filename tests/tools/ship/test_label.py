"""The app folder of the MONAI Label server, and what is refused before it starts; tests/label drives the server."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import sys
from contextlib import nullcontext

import pytest

from custom_networks.workflow.guard.interrupts import Terminated
from tests.synthetic import CLASSIFICATION, ROOT, SEGMENTATION, volume, write_nifti
from tools.ship import label
from tools.ship.label import check_port, prepare, serve, shown_host

NAME, CLASSIFIER = SEGMENTATION[0].name, CLASSIFICATION[0].name


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    write_nifti(volume(0)[0], folder / "a.nii.gz")
    return folder


@pytest.fixture
def started(monkeypatch):
    """Return the commands that would have started a server."""
    commands = []

    def run(command, environment, folder):
        commands.append((command, environment))
        return 0

    monkeypatch.setattr(label, "run_group", run)
    return commands


def test_the_app_folder(tmp_path, studies, started):
    app = tmp_path / "app"
    serve(NAME, CLASSIFIER, studies=str(studies), app=str(app), epistemic=NAME, python=sys.executable, port=0)
    ((command, environment),) = started
    assert command[:4] == [sys.executable, "-m", "monailabel.main", "start_server"]
    text = " ".join(command)
    assert f"--conf models {NAME},{CLASSIFIER} --conf zoo_source local --conf sam2 false" in text
    assert f"--conf epistemic_model {NAME}" in text
    assert "--host 127.0.0.1" in text
    assert environment["PYTHONPATH"] == str(app)
    assert command[-2:] == ["--uvicorn_app", "label_server.app:app"]
    front = json.loads(environment["LABEL_SERVER_FRONT"])
    assert len(front["token"]) >= 32
    assert (front["allow_delete"], front["allow_upload"], front["max_body"]) == (False, False, 2_000_000_000)
    assert (front["studies"], front["sessions"]) == (str(studies), str(app / "sessions"))
    assert (app / "main.py").is_file()
    for name in (NAME, CLASSIFIER):
        own = app / "model" / name
        assert (own / "custom_networks" / "nets" / "__init__.py").is_file()
        assert (own / "models" / "model.pt").read_bytes() == (
            ROOT / "bundles" / name / "models" / "model.pt"
        ).read_bytes()
        known = "models/training_data.json"
        assert (own / known).exists() == (ROOT / "bundles" / name / known).exists()
        assert {path.name for path in (own / "models").iterdir()} <= {"model.pt", "training_data.json"}
        assert not list(own.rglob("__pycache__"))


def test_the_token_is_printed_and_the_options_reach_the_front(tmp_path, studies, started, capsys):
    common = {"studies": str(studies), "app": str(tmp_path / "app"), "python": sys.executable, "port": 0}
    serve(NAME, **common, allow_origin="http://a:1/, https://b", allow_delete=True, max_body=0.5)
    serve(NAME, **common, token="none", allow_upload=True)
    serve(NAME, **common, token="0123456789abcdef", host="localhost")
    fronts = [json.loads(environment["LABEL_SERVER_FRONT"]) for _, environment in started]
    said = capsys.readouterr().out
    assert f"as password the token {fronts[0]['token']}\n" in said
    assert said.count("token") == 2
    assert [front["token"] for front in fronts[1:]] == ["", "0123456789abcdef"]
    assert (fronts[0]["origins"], fronts[0]["allow_delete"], fronts[0]["max_body"]) == (
        ["http://a:1", "https://b"],
        True,
        500_000_000,
    )
    assert fronts[1]["allow_upload"]


def test_weights_trained_in_the_viewer_stay(tmp_path):
    app = prepare(tmp_path / "app", [NAME])
    weights = app / "model" / NAME / "models" / "model.pt"
    weights.write_bytes(b"trained")
    prepare(app, [NAME, CLASSIFIER])
    assert weights.read_bytes() == b"trained"
    metadata = app / "model" / NAME / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "version": "0.0.9"}))
    with pytest.raises(ValueError, match=r"is version 0\.0\.9 of the bundle, not .*; move it away, or give another"):
        prepare(app, [NAME])


def test_weights_of_the_bundle_that_are_not_served_are_told_of(tmp_path, capsys):
    source = tmp_path / "source" / NAME
    shutil.copytree(SEGMENTATION[0], source, ignore=shutil.ignore_patterns("docs"))
    (source / "docs").mkdir()
    copy = prepare(tmp_path / "app", [str(source)]) / "model" / NAME
    served, given = copy / "models" / "model.pt", source / "models" / "model.pt"
    served.write_bytes(b"trained here")
    prepare(tmp_path / "app", [str(source)])
    assert not capsys.readouterr().out  # the copy came with those of the bundle
    given.write_bytes(b"released later")
    prepare(tmp_path / "app", [str(source)])
    assert capsys.readouterr().out == (
        f"{copy} holds other weights than {source}, and these are served; move it away to take those\n"
    )
    assert served.read_bytes() == b"trained here"
    served.with_name("model_20261130T021500Z.pt").write_bytes(b"released later")
    prepare(tmp_path / "app", [str(source)])
    assert not capsys.readouterr().out


def test_two_bundles_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=f"two bundles are called {NAME}, .* and .*; give one, or rename the folder"):
        prepare(tmp_path / "app", [NAME, str(SEGMENTATION[0])])
    assert not (tmp_path / "app").exists()


def test_a_bundle_without_weights(tmp_path):
    folder = tmp_path / NAME
    shutil.copytree(SEGMENTATION[0], folder, ignore=shutil.ignore_patterns("models"))
    with pytest.raises(ValueError, match="has no weights; train it first"):
        prepare(tmp_path / "app", [CLASSIFIER, str(folder)])
    assert not (tmp_path / "app").exists()


def test_what_is_refused(tmp_path, studies, started):
    (tmp_path / "empty").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        common = {"python": sys.executable, "app": str(tmp_path / "app"), "port": 0}
        cases = [
            ((NAME,), {"studies": str(tmp_path / "empty")}, ValueError, r"there is no image \(.*empty; give"),
            ((NAME,), {"studies": str(tmp_path / "absent")}, ValueError, r"there is no image \(.*absent; give"),
            ((), {}, ValueError, "give the names of one bundle or more"),
            (("no_bundle",), {}, ValueError, "there is no bundle no_bundle; use one of"),
            ((NAME,), {"epistemic": CLASSIFIER}, ValueError, f"epistemic must be .*; use one of {NAME}$"),
            (
                (NAME,),
                {"port": port},
                ValueError,
                rf"cannot listen on 127\.0\.0\.1:{port} \(.*\); give another --port and another --app$",
            ),
            ((NAME,), {"port": 70000}, ValueError, r"cannot listen on .*:70000 \(.*\); give another --host or --port$"),
            (
                (NAME,),
                {"host": "192.0.2.1"},
                ValueError,
                r"cannot listen on 192\.0\.2\.1:0 \(.*\); give another --ho",
            ),
            ((NAME,), {"python": str(tmp_path / "python")}, FileNotFoundError, "run: make venv-label"),
            (
                (NAME,),
                {"token": "none", "host": "0.0.0.0"},
                ValueError,
                "--token none is for this machine's own address",
            ),
            (
                (NAME,),
                {"token": "short"},
                ValueError,
                "--token must be 16 ASCII characters or more, got 5; leave it out",
            ),
            (
                (NAME,),
                {"allow_origin": "viewer"},
                ValueError,
                "--allow-origin must be an address such as .*, got viewer",
            ),
            ((NAME,), {"max_body": 0}, ValueError, "--max-body must be gigabytes above 0, got 0; 2 is usual"),
        ]
        for bundles, options, kind, message in cases:
            with pytest.raises(kind, match=message):
                serve(*bundles, **{"studies": str(studies), **common, **options})
    assert not started
    assert not (tmp_path / "app").exists()


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_an_address_of_ipv6(monkeypatch):
    bound = []
    monkeypatch.setattr(label, "_listen", lambda *arguments: bound.append(arguments))
    check_port("::1", 8000)
    ((family, kind, _, address),) = bound
    assert (family, kind, address[:2]) == (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 8000))
    assert [shown_host(host) for host in ("::1", "viewer")] == ["[::1]", "viewer"]


def test_a_name_of_two_addresses_of_which_this_machine_has_one(monkeypatch):
    def listen(family, *_):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "not here")

    found = [(family, socket.SOCK_STREAM, 6, "", ("x", 0)) for family in (socket.AF_INET6, socket.AF_INET)]
    monkeypatch.setattr(label, "_listen", listen)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    check_port("localhost", 8000)
    del found[1]
    with pytest.raises(ValueError, match="not here"):
        check_port("localhost", 8000)


def test_a_server_that_fails_is_an_error(tmp_path, studies, started, monkeypatch):
    monkeypatch.setattr(label, "run_group", lambda *_: 3)
    with pytest.raises(RuntimeError, match=r"ended with exit code 3; its log is .*app\.log"):
        serve(NAME, studies=str(studies), app=str(tmp_path / "app"), python=sys.executable, port=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
def test_ctrl_c_is_how_a_server_is_stopped_and_sigterm_is_no_success(tmp_path, studies, monkeypatch, error):
    def run(*_):
        raise error

    monkeypatch.setattr(label, "run_group", run)
    with pytest.raises(Terminated) if error is Terminated else nullcontext():
        serve(NAME, studies=str(studies), app=str(tmp_path / "app"), python=sys.executable, port=0)
