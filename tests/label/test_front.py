"""Who can do what to a live server: tokens, other origins, names that lead elsewhere, files that are none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from label_server.front.settings import ADDRESS, BEHIND
from monailabel.config import settings

from tests.label.browser import CHROMIUM, site, visit
from tests.label.conftest import SCORED, TOKEN, free_port, served, write_studies
from tests.synthetic import ROOT
from tools.ship.label import prepare, start_command

NAME = SCORED
FRIEND = "friend.test"
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def friend():
    with site() as running:
        yield running


@pytest.fixture(scope="module")
def free(friend, tmp_path_factory):
    """A server without a token, on which everything is on, and which lets the pages of one other origin in."""
    arguments = [NAME, "--allow-delete", "--allow-upload", "--max-body", str(LIMIT / 1e9)]
    arguments += ["--allow-origin", f"http://{FRIEND}:{friend[0]}"]
    with served(tmp_path_factory.mktemp("free"), *arguments, token="none") as server:
        yield server


def content(server):
    """Return every file of the studies and of the app's code, with its size."""
    files = [*server.studies.rglob("*"), *server.app.glob("*.py"), *server.app.glob("model/*/models/*")]
    return {
        str(path): path.stat().st_size for path in files if path.is_file() and path.suffix not in (".json", ".lock")
    }


def test_everything_that_writes_needs_the_token(server):
    before = content(server)
    image = (server.studies / "a.nii.gz").read_bytes()
    for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": "Basic eDp5"}):
        for method, path, options in [
            ("PUT", "/datastore/?image=new", {"files": {"file": ("new.nii.gz", image)}}),
            ("PUT", "/datastore/label?image=a&tag=final", {"files": {"label": ("a.nii.gz", image)}}),
            ("PUT", "/session/", {"files": {"files": ("a.nii.gz", image)}}),
            ("POST", f"/infer/{NAME}?image=a", {}),
            ("POST", f"/train/{NAME}", {"json": {}}),
            ("POST", f"/batch/infer/{NAME}", {"json": {}}),
            ("POST", "/activelearning/first", {"json": {}}),
            ("DELETE", "/train/", {}),
        ]:
            answer = requests.request(method, server.url + path, headers=headers, timeout=60, **options)
            assert answer.status_code == 401, path
            assert "token" in answer.json()["detail"]
    assert requests.get(f"{server.url}/info/", timeout=60).ok
    assert requests.get(f"{server.url}/datastore/image?image=a", timeout=60).content == image
    assert content(server) == before


def test_slicer_logs_in(server, tmp_path):
    """Its own client asks for a login, gets the token, and runs a model on an image that is not in the studies."""
    command = [sys.executable, str(ROOT / "tests" / "label" / "slicer.py"), server.url, TOKEN, NAME]
    command += [str(server.studies / "a.nii.gz"), str(server.app)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_of_python_does_not_become_the_app(server, tmp_path):
    before = content(server)
    evil = tmp_path / "main.py"
    evil.write_text("import os\n")
    for path in ("/datastore/?image=../app/main", "/datastore/?image=main", "/datastore/"):
        answer = server.ask("PUT", path, files={"file": ("main.py", evil.read_bytes())})
        assert answer.status_code in (400, 415), path
    image = (server.studies / "a.nii.gz").read_bytes()
    for path in ("/datastore/?image=../planted", "/datastore/label?image=a&tag=../../planted"):
        answer = server.ask("PUT", path, files={"label" if "label" in path else "file": ("x.nii.gz", image)})
        assert answer.status_code == 400, path
    options = {"max_epochs": f"$__import__('os').system('touch {tmp_path}/planted')"}
    assert server.ask("POST", f"/train/{NAME}", json=options).status_code == 400
    assert server.infer(NAME, "/etc/passwd").status_code == 403
    assert server.infer(NAME, "a", label_tag="../../planted", save_label=True).status_code == 400
    assert not list(tmp_path.rglob("*planted*"))
    assert not list(server.studies.parent.rglob("*planted*"))
    assert content(server) == before


def test_other_names_of_this_machine(server):
    for headers in ({"Host": "evil.test"}, {"Origin": "http://evil.test"}, {"Origin": "null"}):
        answer = server.ask("GET", "/info/", headers=headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    preflight = {"Origin": "http://evil.test", "Access-Control-Request-Method": "PUT"}
    assert server.ask("OPTIONS", "/datastore/", headers=preflight).status_code == 403
    port = server.url.rpartition(":")[2]
    assert server.ask("GET", "/info/", headers={"Host": f"localhost:{port}"}).ok


LONG = "x" * 5000
PYTHON = ("x.nii.gz", b"import os")
BAD = {
    "a long id": ("PUT", f"/datastore/?image={LONG}", {"files": {"file": PYTHON}}, 400),
    "a long id to read": ("GET", f"/datastore/image?image={LONG}", {}, 400),
    "a long model": ("POST", f"/infer/{LONG}?image=a", {}, 400),
    "no image": ("POST", f"/infer/{NAME}", {"data": {"params": "{}"}}, 400),
    "params that are no JSON": ("POST", f"/infer/{NAME}?image=a", {"data": {"params": "{"}}, 400),
    "a body that is no JSON": ("POST", f"/train/{NAME}", {"data": b"{"}, 400),
    "an unknown strategy": ("POST", "/activelearning/nobody", {"json": {}}, 404),
    "an unknown model to train": ("POST", "/train/nobody", {"json": {}}, 404),
    "an unknown method": ("POST", "/scoring/nobody", {"json": {}}, 404),
    "an unknown model for all": ("POST", "/batch/infer/nobody", {"json": {}}, 404),
    "images of an unknown kind": ("POST", f"/batch/infer/{NAME}?images=some", {"json": {}}, 422),
    "a label for nobody": ("PUT", "/datastore/label?image=nobody", {"files": {"label": PYTHON}}, 404),
    "information on nobody": ("PUT", "/datastore/image/info?image=nobody", {"data": {"info": "{}"}}, 404),
    "information on no label": ("PUT", "/datastore/label/info?label=a&tag=none", {"data": {"info": "{}"}}, 404),
    "no tag": ("GET", "/datastore/label?label=a", {}, 422),
    "a label that is Python": ("PUT", "/datastore/label?image=a", {"files": {"label": PYTHON}}, 415),
    "no file": ("PUT", "/datastore/?image=new", {"data": {"params": "{}"}}, 422),
    "weights": ("PUT", f"/model/{NAME}", {"files": {"file": ("model.pt", b"x")}}, 403),
    "to delete": ("DELETE", "/datastore/image?id=a", {}, 403),
    "a session that is gone": ("POST", f"/infer/{NAME}?image=a&session_id=gone", {}, 404),
    "a second app": ("POST", "/reload", {}, 404),
    "another server": ("GET", "/proxy/dicom/wado/x", {}, 404),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_end_in_a_sentence(server, case):
    before = content(server)
    method, path, options, status = BAD[case]
    answer = server.ask(method, path, **options)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    assert isinstance(answer.json()["detail"], str)
    assert "\n" not in answer.json()["detail"]
    assert content(server) == before
    assert server.get("/train/").status_code == 404 or server.get("/train/").json()["request"]["model"] != "nobody"


def test_labels_that_would_end_a_training(server):
    """On another grid, with fractions, or with an end missing."""
    before = content(server)
    good = nib.load(server.labels / "a.nii.gz")
    values = np.asarray(good.dataobj)
    shifted = good.affine.copy()
    shifted[:3, 3] += 1
    labels = {
        "shape": nib.Nifti1Image(values[:-1], good.affine),
        "beside": nib.Nifti1Image(values, shifted),
        "whole numbers": nib.Nifti1Image(values + np.float32(0.5), good.affine),
    }
    for word, label in labels.items():
        stream = io.BytesIO()
        label.to_stream(stream)
        answer = server.ask("PUT", "/datastore/label?image=a&tag=final", files={"label": ("x.nii", stream.getvalue())})
        assert answer.status_code == 422
        assert word in answer.json()["detail"]
    half = (server.labels / "a.nii.gz").read_bytes()[:-200]
    assert server.save_label("a", half).status_code == 422
    assert content(server) == before


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")
def test_a_page_of_another_origin(free, stock, friend, tmp_path):
    """In Chromium, and to a server without a token. That the page knows its trade is seen at the stock app."""
    port, results = friend
    before = content(free)
    names = ("info", "credentials", "login", "image", "upload", "train", "remove")
    for number, page in enumerate((f"http://evil.test:{port}", f"http://127.0.0.1:{port}")):
        found = visit(page, results, free.url, tmp_path / str(number))
        assert {name: found[name] for name in names} == dict.fromkeys(names, "blocked")
        assert (found["simple"], found["infer"]) == ("blocked", "blocked")
    bent = visit(f"http://evil.test:{port}", results, free.url.replace("127.0.0.1", "evil.test"), tmp_path / "bent")
    assert {bent[name] for name in names} == {"blocked"}
    assert content(free) == before
    assert free.get("/train/").status_code == 404
    assert "strategy" not in free.get("/datastore/image/info", image="a").json()
    allowed = visit(f"http://{FRIEND}:{port}", results, free.url, tmp_path / "friend")
    assert allowed["info"].startswith("cors 200 ")
    assert allowed["upload"].startswith("cors 415 ")
    bare = visit(f"http://evil.test:{port}", results, stock.url, tmp_path / "stock")
    assert bare["info"].startswith("cors 200 ")
    assert bare["image"].startswith("cors 200 ")


def test_weights_are_checked_where_they_may_be_sent(free):
    path = free.app / "model" / NAME / "models" / "model.pt"
    before = path.read_bytes()
    state = torch.load(path, weights_only=True)
    junk = {"text": b"junk", "a pickle": b"\x80\x04K\x01.", "another network": saved({"weight": torch.zeros(1)})}
    for content_ in junk.values():
        answer = free.ask("PUT", f"/model/{NAME}", files={"file": ("model.pt", content_)})
        assert answer.status_code == 422
        assert "\n" not in answer.json()["detail"]
    assert path.read_bytes() == before
    answer = free.ask("PUT", f"/model/{NAME}", files={"file": ("model.pt", saved(state))})
    assert answer.ok, answer.text
    assert path.read_bytes() == saved(state)
    assert path.with_name(answer.json()["kept_as"]).read_bytes() == before
    assert free.ask("PUT", "/model/nobody", files={"file": ("model.pt", saved(state))}).status_code == 422


def saved(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def test_what_may_be_deleted(free):
    assert free.ask(
        "PUT", "/datastore/?image=x", files={"file": ("x.nii.gz", (free.studies / "d.nii.gz").read_bytes())}
    ).ok
    assert (free.studies / "x.nii.gz").is_file()
    assert free.ask("DELETE", "/datastore/image?id=x").ok
    assert not (free.studies / "x.nii.gz").exists()
    assert free.ask("DELETE", "/datastore/image?id=nobody").status_code == 404


def test_bodies_over_the_limit(free):
    def endless():
        for _ in range(80):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (endless(), bytes(LIMIT + 1)):
        answer = free.ask("PUT", "/datastore/?image=large", data=body, headers=headers)
        assert answer.status_code == 413
        assert f"larger than {LIMIT} bytes" in answer.json()["detail"]


def test_a_training_may_ask_the_server_for_scores(server, monkeypatch):
    """From a process of its own, which has the token from its parent, and of no proxy."""
    from main import BundlesApp

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setattr(settings, "MONAI_LABEL_SERVER_PORT", int(server.url.rpartition(":")[2]))
    monkeypatch.setenv(BEHIND, TOKEN)
    monkeypatch.setenv(ADDRESS, "127.0.0.1")
    assert BundlesApp._local_request(None, "/activelearning/first", None, "Sampling")["id"] in set("abcd")
    monkeypatch.setenv(BEHIND, "guess")
    assert BundlesApp._local_request(None, "/activelearning/first", None, "Sampling") is None


def test_the_app_does_not_run_bare(tmp_path):
    images, _ = write_studies(tmp_path)
    app = prepare(tmp_path / "app", [NAME])
    for name in ("main.py", "label_server"):
        (app / name).symlink_to(ROOT / "tools" / "ship" / "label_app" / name)
    command, environment = start_command(Path(sys.executable), app, images, [NAME], None, "127.0.0.1", free_port())
    done = subprocess.run(command, env=environment, cwd=app, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert (
        "this app runs only behind its front; start it with: python -m tools label serve" in done.stdout + done.stderr
    )
