"""Who may ask the front of the MONAI Label server for what; tests/label has the real server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from urllib.parse import quote, urlencode

import pytest
from label_server.front.origins import check_host
from label_server.front.settings import ADDRESS, BEHIND, VARIABLE, Settings
from label_server.sessions import remove_expired

from tests.tools.ship.label_front.label_client import BEARER, GONE, TOKEN, Client, form, nifti, volume


def test_the_hole_of_monai_label(client):
    """A file of Python in place of the app."""
    sent = form(("file", "main.py", "import os"))
    assert client.refused("PUT", "/datastore/?image=../app/main", **sent)[0] == 400
    assert client.refused("PUT", "/datastore/?image=main", **sent) == (
        415,
        "'main.py' is no image by its name; send a file that ends in .nii.gz, .nii, .nrrd, .mha",
    )


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "..", ".lock", "a\nb", "a\x00b", "x" * 5000, "x" * 249, "ä" * 125], ids=repr
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/datastore/?image={}"),
        ("PUT", "/datastore/label?image={}"),
        ("PUT", "/datastore/label?image=a&tag={}"),
        ("PUT", "/datastore/label?tag={}&image=a&tag=final"),
        ("PUT", "/datastore/image/info?image={}"),
        ("PUT", "/datastore/updatelabelinfo?label=a&tag={}"),
        ("GET", "/datastore/image?image={}"),
        ("GET", "/datastore/label?label=a&tag={}"),
        ("HEAD", "/datastore/label?image={}&tag=final"),
        ("POST", "/infer/net?session_id={}"),
    ],
)
def test_names_that_lead_elsewhere(client, method, path, name):
    status, sentence = client.refused(method, path.format(quote(name)), **form(("label", "a.nii.gz", nifti(volume()))))
    assert status == 400
    assert len(sentence) < 200


@pytest.mark.parametrize("name", ["3: T1 MPRAGE (2024)", "ä", "x" * 248, "a.b", "100%"])
def test_names_that_viewers_send(client, name):
    status, _, _ = client.ask("PUT", f"/datastore/?image={quote(name)}", **form(("file", "a.nii.gz", nifti(volume()))))
    assert status == 200
    scope, _ = client.inner.asked[0]
    assert scope["query_string"].decode() == urlencode({"image": name})


@pytest.mark.parametrize("name", ["..", ".", "a\\b", "x" * 5000])
@pytest.mark.parametrize("path", ["/model/{}", "/session/{}", "/train/{}", "/infer/{}", "/activelearning/{}"])
def test_names_in_paths(client, path, name):
    method = "GET" if path.startswith(("/model", "/session")) else "POST"
    assert client.refused(method, path.format(name))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/proxy/dicom/wado/x", 404),
        ("POST", "/reload", 404),
        ("GET", "/ohif/", 404),
        ("POST", "/infer/wsi/net", 404),
        ("GET", "/static/ohif/index.html", 404),
        ("GET", "//info/", 404),
        ("GET", "/info/../logs/", 404),
        ("GET", "/model/a/b", 404),
        ("GET", "/datastore/dataset", 404),
        ("POST", "/train/?run_sync=true", 405),
        ("POST", "/scoring/?run_sync=true", 405),
        ("PATCH", "/info/", 405),
        ("POST", "/datastore/label", 405),
        ("TRACE", "/", 405),
    ],
)
def test_only_what_is_in_the_table_is_served(client, method, path, status):
    assert client.refused(method, path)[0] == status


@pytest.mark.parametrize(
    ("method", "path", "switch"),
    [
        ("DELETE", "/datastore/?id=a", "allow_delete"),
        ("DELETE", "/datastore/image?id=a", "allow_delete"),
        ("DELETE", "/datastore/label?id=a&tag=final", "allow_delete"),
        ("DELETE", "/model/net", "allow_delete"),
        ("PUT", "/model/net", "allow_upload"),
    ],
)
def test_what_is_off(client, tmp_path, method, path, switch):
    sent = form(("file", "model.pt", "weights")) if method == "PUT" else {}
    status, sentence = client.refused(method, path, **sent)
    assert (status, sentence) == (
        403,
        f"this is off; start the server with --{switch.replace('_', '-')} to allow it",
    )
    assert Client(tmp_path, **{switch: True}).ask(method, path, **sent)[0] == 200


def test_tasks_can_be_stopped(client):
    for path in ("/train/", "/scoring/", "/batch/infer", "/session/abc"):
        assert client.ask("DELETE", path)[0] == 200


BASIC = "Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode()


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", BASIC])
@pytest.mark.parametrize(("method", "path"), [("POST", "/train/net"), ("GET", "/info/"), ("DELETE", "/train/")])
def test_with_the_token(client, method, path, given):
    assert client.ask(method, path, {"authorization": given})[0] == 200
    assert b"authorization" not in dict(client.inner.asked[0][0]["headers"])


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Token {TOKEN}",
        TOKEN,
        "Basic ???",
        "Basic " + "w7w=",
        "Bearer ü",
    ],
)
def test_without_the_token(client, tmp_path, given):
    headers = {"authorization": given} if given else {}
    for method, path in [("POST", "/train/net"), ("PUT", "/session/"), ("DELETE", "/train/"), ("POST", "/infer/net")]:
        status, sentence = client.refused(method, path, headers)
        assert (status, sentence[:42]) == (401, "this needs the token that the server print")
    assert client.ask("GET", "/info/", headers)[0] == 200
    elsewhere = Client(tmp_path, host="0.0.0.0")
    for path in ("/info/", "/", "/datastore/image?image=a", "/logs/"):
        assert elsewhere.refused("GET", path, headers)[0] == 401
    assert elsewhere.ask("GET", "/info/")[0] == 200


def test_the_login_of_slicer(client, tmp_path):
    assert client.ask("GET", "/auth/", {})[2]["enabled"] is True
    wrong = urlencode({"username": "user-xyz", "password": "guess", "grant_type": "password"}).encode()
    assert client.refused("POST", "/auth/token", {}, wrong)[0] == 401
    right = wrong.replace(b"guess", TOKEN.encode())
    status, _, answer = client.ask("POST", "/auth/token", {}, right)
    assert (status, answer) == (200, {"access_token": TOKEN, "token_type": "bearer"})
    assert client.ask("GET", "/auth/token/valid", {"authorization": f"bearer {TOKEN}"})[0] == 200
    assert client.refused("GET", "/auth/token/valid", {"authorization": "bearer x"})[0] == 401
    assert client.refused("GET", "/auth/users", {})[0] == 404
    free = Client(tmp_path, token="")
    assert free.ask("GET", "/auth/", {})[2]["enabled"] is False
    assert free.refused("POST", "/auth/token", {}, right)[0] == 404
    assert free.ask("POST", "/train/net", {})[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "viewer:8000"])
def test_hosts_that_are_meant(tmp_path, host):
    client = Client(tmp_path, host="viewer", origins=("http://other:3000",))
    assert client.ask("GET", "/info/", {**BEARER, "host": host})[0] == 200
    assert client.ask("GET", "/info/", {**BEARER, "host": "other"})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:8000",
        "127.0.0.1.evil.test",
        "",
        "localhost.",
        "a@localhost",
        "localhost:x",
        "::1",
        "x y",
    ],
)
def test_a_name_that_was_bent_to_this_machine(client, tmp_path, host):
    assert client.refused("GET", "/info/", {**BEARER, "host": host})[0] == 403
    everywhere = Client(tmp_path, host="0.0.0.0")
    assert everywhere.refused("GET", "/info/", {**BEARER, "host": host})[0] == 403
    assert everywhere.ask("GET", "/info/", {**BEARER, "host": "192.168.1.7:8000"})[0] == 200
    assert client.refused("GET", "/info/", {**BEARER, "host": "192.168.1.7:8000"})[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"},
        {"origin": "https://127.0.0.1:8000.evil.test"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_other_origins(client, method, headers):
    if method == "OPTIONS":
        headers = {**headers, "access-control-request-method": "PUT"}
    path = "/train/net" if method == "POST" else "/info/"
    assert client.refused(method, path, {**BEARER, **headers})[0] in (403, 405)
    _, answered, _ = client.ask(method, path, {**BEARER, **headers})
    assert not [name for name in answered if name.startswith("access-control")]


def test_pages_of_allowed_origins(tmp_path):
    client = Client(tmp_path, origins=("http://friend.test:3000",))
    page = {**BEARER, "origin": "http://friend.test:3000", "sec-fetch-site": "cross-site"}
    status, answered, _ = client.ask("OPTIONS", "/train/net", {**page, "access-control-request-method": "POST"})
    assert status == 200
    assert answered["access-control-allow-headers"] == "authorization, content-type"
    for request in (("POST", "/train/net"), ("POST", "/train/nobody")):
        _, answered, _ = client.ask(*request, page)
        assert answered["access-control-allow-origin"] == "http://friend.test:3000"
        assert "access-control-allow-credentials" not in answered
    assert b"origin" not in dict(client.inner.asked[0][0]["headers"])


def test_pages_of_the_server_itself(client):
    for headers in ({"origin": "http://127.0.0.1:8000"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert client.ask("POST", "/train/net", {**BEARER, **headers})[0] == 200


def test_a_header_that_is_given_twice(client):
    async def receive():
        return GONE

    async def send(message):
        got.append(message)

    got = []
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"host", b"evil.test")]
    asyncio.run(client.front(scope, receive, send))
    assert got[0]["status"] == 400


def test_no_websockets(client):
    async def send(message):
        got.append(message)

    got = []
    asyncio.run(client.front({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert got == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/train/nobody", "there is no model 'nobody' to train; use one of net"),
        ("/train/classifier", "there is no model 'classifier' to train; use one of net"),
        ("/batch/infer/nobody", "there is no model 'nobody'; use one of net, classifier"),
        ("/scoring/nobody", "there is no scoring method 'nobody'; this server has none"),
        ("/activelearning/nobody", "there is no strategy 'nobody'; use one of first"),
    ],
)
def test_what_is_not_there_is_said_at_once(client, path, sentence):
    assert client.refused("POST", path) == (404, sentence)


def test_images_by_their_path(client, tmp_path):
    (tmp_path / "secret.nii.gz").write_bytes(nifti(volume()))
    (client.studies / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    (client.sessions / "one").mkdir()
    (client.sessions / "one" / "x.nii.gz").write_bytes(nifti(volume()))
    for good in (client.studies / "a.nii.gz", client.sessions / "one" / "x.nii.gz", "a", "link"):
        assert client.ask("POST", f"/infer/net?image={quote(str(good))}")[0] == 200
    for bad in ("secret.nii.gz", "studies/../secret.nii.gz", "studies/link.nii.gz", "studies/nobody.nii.gz"):
        status, sentence = client.refused("POST", f"/infer/net?image={quote(str(tmp_path / bad))}")
        assert (status, "is not in the folder of images" in sentence) == (403, True)
    assert client.refused("POST", "/infer/net?image=labels/../a.nii.gz")[0] == 403
    assert client.refused("POST", "/infer/net?image=nobody")[0] == 404


def test_no_image(client):
    """MONAI Label takes none from the options alone."""
    status, sentence = client.refused("POST", "/infer/net")
    assert (status, sentence[:30]) == (400, "there is no image to work on; ")
    assert client.refused("POST", "/infer/net?image=&session_id=", **form(("params", None, '{"image": "a"}')))[0] == 400
    mask = ("label", "a.nii.gz", nifti(volume()))
    assert client.refused("POST", "/infer/net", **form(mask)) == (status, sentence)
    assert client.ask("POST", "/infer/net", **form(("file", *mask[1:])))[0] == 200


def test_sessions(client):
    (client.sessions / "one").mkdir()
    assert client.ask("POST", "/infer/net?image=3%3A%20T1&session_id=one")[0] == 200
    assert client.refused("POST", "/infer/net?image=a&session_id=two")[0] == 404
    assert client.refused("POST", "/infer/net?image=/etc/passwd&session_id=one")[0] == 400
    sent = form(("files", "a.nii.gz", nifti(volume())))
    assert client.ask("PUT", "/session/", **sent)[0] == 200
    assert client.refused("PUT", "/session/?uncompress=true", **sent)[0] == 400
    twice = form(*(("files", f"{name}.nii.gz", nifti(volume())) for name in "ab"))
    assert client.refused("PUT", "/session/", **twice)[0] == 400


def test_sessions_that_are_over(tmp_path):
    """Also those of a server before, and where one was left half written."""
    for name in ("old", "half", "used"):
        (tmp_path / name).mkdir()
    for path in (tmp_path / "old" / "meta.info", tmp_path / "used" / "meta.info", *tmp_path.iterdir()):
        path.touch()
        os.utime(path, (0, 0))
    (tmp_path / "used" / "meta.info").touch()
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", (0, 0))
    known = {"old": 1, "used": 1}
    remove_expired(tmp_path, 3600, known)
    assert ({path.name for path in tmp_path.iterdir()}, set(known)) == ({"used", "file"}, {"used"})
    remove_expired(tmp_path / "absent", 3600, known)


ANSWERS = {
    "a crash": (
        (500, b"Internal Server Error", []),
        ZeroDivisionError("division by zero"),
        500,
        "the server failed: div",
    ),
    "an image that is not there": (
        (500, b"x", []),
        type("ImageNotFoundException", (Exception,), {"msg": "Image x"})(),
        404,
        "Image x",
    ),
    "a sentence": ((500, b'{"detail": "no\\n such"}', []), None, 500, "no such"),
    "a list": (
        (422, b'{"detail": [{"loc": ["query", "tag"], "msg": "Field required"}]}', []),
        None,
        422,
        "query.tag: Field",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_say_too_little_or_too_much(client, case):
    client.inner.answer, client.inner.error, status, sentence = ANSWERS[case]
    got, answered, said = client.ask("GET", "/info/")
    assert (got, answered["content-type"]) == (status, "application/json")
    assert sentence in said["detail"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("192.168.1.5", "192.168.1.5"),
        ("viewer", "viewer"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
    ],
)
def test_where_a_training_reaches_the_server(monkeypatch, host, address):
    monkeypatch.setenv(BEHIND, "")  # so that they are put back
    monkeypatch.setenv(ADDRESS, "")
    monkeypatch.setenv(VARIABLE, json.dumps({"studies": "/s", "sessions": "/t", "host": host}))
    check_host(f"{address}:8000", Settings.from_environment())
    assert os.environ[ADDRESS] == address


def test_settings_leave_the_environment(monkeypatch):
    monkeypatch.setenv(BEHIND, "")  # so that they are put back
    monkeypatch.setenv(ADDRESS, "")
    monkeypatch.setenv(VARIABLE, json.dumps({"studies": "/s", "sessions": "/t", "origins": ["http://a"], "token": "x"}))
    settings = Settings.from_environment()
    assert os.environ[BEHIND] == "x"
    assert (settings.origins, settings.token, settings.local) == (("http://a",), "x", True)
    with pytest.raises(RuntimeError, match="start the server with: python -m tools label serve"):
        Settings.from_environment()
