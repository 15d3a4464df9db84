"""The front of the MONAI Label server before an application that says what reaches it; tests/label has the real one."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import os
from urllib.parse import quote, urlencode

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from label_server.front.middleware import Front
from label_server.front.settings import BEHIND, VARIABLE, Settings

TOKEN = "a-token-of-sixteen-or-more"
BEARER = {"authorization": f"Bearer {TOKEN}"}
HERE = {"host": "127.0.0.1:8000"}
GONE = {"type": "http.disconnect"}


class Knowledge:
    """An app with one model and the images of a folder."""

    def __init__(self, folder):
        self.folder = folder

    def names(self, task):
        return {"train": ["net"], "batch": ["net", "classifier"], "scoring": [], "activelearning": ["first"]}[task]

    def image(self, name):
        path = self.folder / f"{name}.nii.gz"
        return str(path) if path.is_file() else ""

    def weights_problem(self, model, file):
        return "" if file.read_bytes() == b"weights" else "the file holds no weights"


class Inner:
    """What stands for MONAI Label: it keeps what it was asked, and answers as it was told."""

    def __init__(self):
        self.asked = []
        self.answer = (200, b"{}", [])
        self.error = None

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more and scope["method"] not in ("GET", "HEAD"):
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope, body))
        status, content, headers = self.answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        if self.error:
            raise self.error


class Client:
    def __init__(self, folder, **options):
        self.studies, self.sessions = folder / "studies", folder / "sessions"
        for path in (self.studies, self.sessions):
            path.mkdir(exist_ok=True)
        settings = {"studies": str(self.studies), "sessions": str(self.sessions), "token": TOKEN, **options}
        self.inner = Inner()
        self.front = Front(self.inner, Settings(**settings), Knowledge(self.studies))

    def ask(self, method, path, headers=BEARER, body=b"", chunks=None):
        """Return status, headers and JSON of the answer."""
        path, _, query = path.partition("?")
        sent = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or [body]]
        sent[-1]["more_body"] = False
        got = []

        async def receive():
            return sent.pop(0) if sent else GONE

        async def send(message):
            got.append(message)

        fields = {**HERE, **headers}
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in fields.items()]
        asyncio.run(self.front(scope, receive, send))
        assert [message["type"] for message in got] == ["http.response.start", "http.response.body"]
        answered = {name.decode(): value.decode() for name, value in got[0]["headers"]}
        return got[0]["status"], answered, json.loads(got[1]["body"] or b"{}")

    def refused(self, *request, **options):
        """Return status and sentence of a request that must not get through."""
        before = len(self.inner.asked)
        status, _, answer = self.ask(*request, **options)
        assert status >= 400
        assert len(self.inner.asked) == before
        assert set(answer) == {"detail"}
        assert isinstance(answer["detail"], str)
        assert "\n" not in answer["detail"]
        return status, answer["detail"]


@pytest.fixture
def client(tmp_path):
    client = Client(tmp_path)
    (client.studies / "a.nii.gz").write_bytes(nifti(volume()))
    return client


def volume(dtype=np.int16, shape=(4, 5, 6), affine=None):
    return nib.Nifti1Image(np.ones(shape, dtype), np.diag([-1, 1, 2, 1.0]) if affine is None else affine)


def nifti(image):
    return gzip.compress(image.to_bytes())


def form(*parts, boundary="limit"):
    """Return headers and body of a form of (name, filename or None, content)."""
    body = b""
    for name, filename, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="{filename}"\r\nContent-Type: image/any' if filename is not None else ""
        body += f"{head}\r\n\r\n".encode() + (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    headers = {**BEARER, "content-type": f"multipart/form-data; boundary={boundary}"}
    return {"headers": headers, "body": body + f"--{boundary}--\r\n".encode()}


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


@pytest.mark.parametrize("announced", [True, False])
def test_bodies_over_the_limit(tmp_path, announced):
    client = Client(tmp_path, max_body=5000)
    sent = form(("file", "a.nii.gz", nifti(volume()) + bytes(6000)))
    headers = {**sent["headers"], **({"content-length": str(len(sent["body"]))} if announced else {})}
    chunks = [sent["body"][at : at + 500] for at in range(0, len(sent["body"]), 500)]
    assert client.refused("PUT", "/datastore/?image=a", headers, chunks=chunks) == (
        413,
        "the body is larger than 5000 bytes; send less, or start the server with another --max-body",
    )
    assert client.ask("PUT", "/datastore/?image=a", **form(("file", "a.nii.gz", nifti(volume()))))[0] == 200


def test_options_over_a_megabyte(client):
    assert client.refused("POST", "/train/net", body=b" " * (1 << 20) + b"{}")[0] == 413
    assert client.refused("POST", "/infer/net?image=a", **form(("params", None, " " * (1 << 20) + "{}")))[0] == 413


def image_files():
    image = SimpleITK.GetImageFromArray(np.ones((3, 4, 5), np.int16))
    files = {".nii": volume().to_bytes(), ".nii.gz": nifti(volume())}
    files["2.nii.gz"] = gzip.compress(nib.Nifti2Image(np.ones((2, 2, 2), np.int16), np.eye(4)).to_bytes())
    return image, files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", "2.nii.gz", ".nrrd", ".mha"])
def test_images_arrive_as_they_were_sent(client, tmp_path, suffix):
    image, files = image_files()
    if suffix not in files:
        SimpleITK.WriteImage(image, str(tmp_path / f"x{suffix}"))
        files[suffix] = (tmp_path / f"x{suffix}").read_bytes()
    sent = form(("params", None, "{}"), ("file", f"C:\\Users\\jo.doe\\t1.2024{suffix}", files[suffix]))
    assert client.ask("PUT", "/datastore/image", **sent)[0] == 200
    scope, body = client.inner.asked[0]
    assert files[suffix] in body
    assert f'filename="t1.2024{suffix}"'.encode() in body
    assert scope["query_string"] == f"image=t1.2024{suffix.removesuffix('.nii.gz').removesuffix(suffix)}".encode()
    headers = dict(scope["headers"])
    assert int(headers[b"content-length"]) == len(body)
    assert b"boundary=limit" not in headers[b"content-type"]


JUNK = {
    "text as nii.gz": ("a.nii.gz", b"import os"),
    "gzip of text": ("a.nii.gz", gzip.compress(b"import os" * 100)),
    "nii.gz as nii": ("a.nii", gzip.compress(bytes(400))),
    "a pickle": ("a.nrrd", b"\x80\x04K\x01."),
    "a detached nrrd": ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\ndata file: /etc/passwd\n\n"),
    "a detached mha": ("a.mha", b"ObjectType = Image\nNDims = 3\nElementDataFile = /etc/passwd\n"),
    "nothing": ("a.nii.gz", b""),
    "a picture": ("a.png", b"\x89PNG"),
    "an archive": ("a.zip", b"PK\x03\x04"),
    "no ending": ("a", b"x"),
    "an ending alone": (".nii.gz", b"x"),
    "a hidden parent": ("a/..", b"x"),
}


@pytest.mark.parametrize("case", JUNK)
@pytest.mark.parametrize("path", ["/datastore/?image=new", "/session/", "/infer/net", "/datastore/label?image=a"])
def test_files_that_are_no_images(client, path, case):
    field = "label" if "label" in path else "files" if "session" in path else "file"
    assert client.refused("POST" if "infer" in path else "PUT", path, **form((field, *JUNK[case])))[0] in (400, 415)


def test_another_image_of_the_same_name(client, tmp_path):
    same, other = (client.studies / "a.nii.gz").read_bytes(), nifti(volume(shape=(3, 3, 3)))
    assert client.ask("PUT", "/datastore/?image=a", **form(("file", "x.nii.gz", same)))[0] == 200
    for sent in (("file", "x.nii.gz", other), ("file", "x.nii", gzip.decompress(same))):
        status, sentence = client.refused("PUT", "/datastore/?image=a", **form(sent))
        assert (status, sentence[:37]) == (409, "there is another image 'a' already; r")
    assert (
        Client(tmp_path, allow_delete=True).ask("PUT", "/datastore/?image=a", **form(("file", "x.nii.gz", other)))[0]
        == 200
    )


def nrrd(values, directory):
    image = SimpleITK.GetImageFromArray(values.T)
    image.SetSpacing((1, 1, 2))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))  # ITK counts to the left and to the back
    SimpleITK.WriteImage(image, str(directory / "label.nrrd"))
    return (directory / "label.nrrd").read_bytes()


SHIFTED = np.diag([-1, 1, 2, 1.0])
SHIFTED[0, 3] = 0.5
LABELS = {
    "whole numbers": (volume(np.uint8), ""),
    "whole numbers as floats": (volume(np.float32), ""),
    "another shape": (volume(np.uint8, (4, 5, 7)), "has shape (4, 5, 7), its image (4, 5, 6)"),
    "four dimensions": (volume(np.uint8, (4, 5, 6, 2)), "has shape (4, 5, 6, 2), its image (4, 5, 6)"),
    "shifted": (volume(np.uint8, affine=SHIFTED), "lies up to 0.5 mm beside its image"),
    "flipped": (volume(np.uint8, affine=np.diag([1, 1, 2, 1.0])), "lies up to 6 mm beside its image"),
    "fractions": (nib.Nifti1Image(np.full((4, 5, 6), 0.5, np.float32), np.diag([-1, 1, 2, 1.0])), "fractions"),
    "not a number": (nib.Nifti1Image(np.full((4, 5, 6), np.nan, np.float32), np.diag([-1, 1, 2, 1.0])), "fractions"),
    "negative": (nib.Nifti1Image(np.full((4, 5, 6), -1, np.int16), np.diag([-1, 1, 2, 1.0])), "the value -1"),
    "complex": (volume(np.complex64), "values of type complex64"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(client, case):
    label, sentence = LABELS[case]
    sent = form(
        ("params", None, json.dumps({"label_info": [{"name": "$x"}]})), ("label", "/tmp/x.nii.gz", nifti(label))
    )
    if sentence:
        status, said = client.refused("PUT", "/datastore/label?image=a&tag=final", **sent)
        assert (status, sentence in said) == (422, True), said
    else:
        assert client.ask("PUT", "/datastore/label?image=a&tag=final", **sent)[0] == 200


def test_a_label_that_ends_early(client):
    content = gzip.compress(volume(np.uint8).to_bytes()[:400])
    status, sentence = client.refused("PUT", "/datastore/label?image=a", **form(("label", "x.nii.gz", content)))
    assert (status, sentence[:27]) == (422, "the label cannot be read (E"), sentence


def test_a_label_of_another_format(client, tmp_path):
    good, bad = (nrrd(np.full(shape, 2, np.uint8), tmp_path) for shape in ((4, 5, 6), (4, 5, 5)))
    assert client.ask("PUT", "/datastore/label?image=a", **form(("label", "x.seg.nrrd", good)))[0] == 200
    assert client.refused("PUT", "/datastore/label?image=a", **form(("label", "x.nrrd", bad)))[0] == 422


def test_a_label_for_an_image_that_is_not_there(client):
    sent = form(("label", "x.nii.gz", nifti(volume())))
    for path in ("/datastore/label?image=nobody", "/datastore/label", "/datastore/label?image="):
        status, sentence = client.refused("PUT", path, **sent)
        assert (status, sentence[:17]) == (404, "there is no image")


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


CODE = {
    "an expression": {"max_epochs": "$__import__('os').system('id')"},
    "an expression in a list": {"device": ["$1"]},
    "an expression with a blank": {"device": " $1"},
    "a reference": {"device": "@bundle_root"},
    "another config": {"device": "%/tmp/x.json::y"},
    "a call": {"device": {"_target_": "os.system", "command": "id"}},
    "an expression for one model": {"net": {"max_epochs": "$1"}},
    "where Python looks": {"bundle_path": "/tmp"},
    "weights elsewhere": {"model_filename": "../../x.pt"},
    "weights elsewhere, as a list": {"model_filename": ["/tmp/x.pt"]},
    "tracking by a file": {"tracking": "/tmp/x.json"},
    "tracking elsewhere": {"tracking_uri": "http://evil.test"},
    "an argument of torchrun": {"run_id": "--config_file=x.json"},
    "a tag elsewhere": {"label_tag": "../../x"},
    "an ending elsewhere": {"result_extension": "/../x"},
    "a character that ends texts": {"gpus": "0\x00"},
    "another model": {"model": "other"},
    "an image elsewhere": {"image": "/etc/passwd"},
    "an image that is not there": {"image": "nobody"},
    "images elsewhere": {"images": ["a", "/etc/passwd"]},
    "a number for an image": {"image": 7},
    "deep": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}},
}


@pytest.mark.parametrize("case", CODE)
def test_options_that_are_code_or_paths(client, case):
    for path in ("/train/net", "/batch/infer/net"):
        assert client.refused("POST", path, body=json.dumps(CODE[case]).encode())[0] in (400, 403, 404)
    assert client.refused("POST", "/infer/net?image=a", **form(("params", None, json.dumps(CODE[case]))))[0] in (
        400,
        403,
        404,
    )


def test_options_that_slicer_sends(client):
    options = {
        "device": "NVIDIA H200",
        "pretrained": True,
        "max_epochs": 50,
        "val_split": 0.2,
        "gpus": "all",
        "tracking": "None",
        "tracking_uri": "",
        "run_id": "",
        "model_filename": "model.pt",
        "client_id": "user-xyz",
        "result_extension": ".nrrd",
        "images": "unlabeled",
    }
    assert client.ask("POST", "/train/net", body=json.dumps(options).encode())[0] == 200
    scope, body = client.inner.asked[0]
    assert json.loads(body) == options
    assert int(dict(scope["headers"])[b"content-length"]) == len(body)
    fields = urlencode({"params": json.dumps(options)}).encode()
    headers = {**BEARER, "content-type": "application/x-www-form-urlencoded"}
    assert client.ask("POST", "/infer/net?image=a", headers, fields)[0] == 200


@pytest.mark.parametrize("text", ["{", "[]", "7", "\xff", '{"a": NaN}', "[" * 100_000])
def test_options_that_are_no_json(client, text):
    assert client.refused("POST", "/train/net", body=text.encode("latin-1"))[0] == 400
    for path in (
        "/datastore/?image=new",
        "/datastore/label?image=a",
        "/datastore/image/info?image=a",
        "/infer/net?image=a",
    ):
        method, field = "POST" if "infer" in path else "PUT", "info" if "info" in path else "params"
        assert client.refused(method, path, **form((field, None, text.encode("latin-1"))))[0] == 400


def test_information_that_leads_a_viewer_elsewhere(client):
    sent = form(("info", None, json.dumps({"name": "../../x"})))
    assert client.refused("PUT", "/datastore/image/info?image=a", **sent)[0] == 400


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


def test_weights(tmp_path):
    client = Client(tmp_path, allow_upload=True)
    assert client.ask("PUT", "/model/net", **form(("file", "model.pt", "weights")))[0] == 200
    assert client.refused("PUT", "/model/net", **form(("file", "model.pt", "junk"))) == (
        422,
        "the file holds no weights",
    )
    assert client.refused("PUT", "/model/net", **form(("file", "main.py", "weights")))[0] == 415


@pytest.mark.parametrize(
    "body",
    [
        b"--limit",
        b"--limit\r\n\r\nx\r\n--limit--",
        b'--limit\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}',
        b'--limit\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--limitless--',
        b'--limit\r\nContent-Disposition: form-data; name="par ams"\r\n\r\n{}\r\n--limit--',
        b'--limit\r\nContent-Disposition: form-data; name="x"; filename="\xff.nii.gz"\r\n\r\n{}\r\n--limit--',
        b'--limit\r\nContent-Disposition: form-data; name="params"\r\n\r\n\xff\r\n--limit--',
        b"--another\r\n\r\nx\r\n--another--",
    ],
)
def test_broken_forms(client, body):
    assert client.refused("PUT", "/datastore/?image=x", form()["headers"], body)[0] == 400


def test_bodies_that_are_no_forms(client):
    headers = {**BEARER, "content-type": "text/plain"}
    assert client.refused("PUT", "/datastore/?image=x", headers, b"x")[0] == 415
    assert client.refused("PUT", "/datastore/?image=x", BEARER, b"x")[0] == 415


def test_a_client_that_goes_away(client):
    async def receive():
        return GONE

    async def send(message):
        raise AssertionError(message)

    scope = {"type": "http", "method": "PUT", "path": "/session/", "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
    asyncio.run(client.front(scope, receive, send))
    assert not client.inner.asked


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


def test_settings_leave_the_environment(monkeypatch):
    monkeypatch.setenv(BEHIND, "")  # so that it is put back
    monkeypatch.setenv(VARIABLE, json.dumps({"studies": "/s", "sessions": "/t", "origins": ["http://a"], "token": "x"}))
    settings = Settings.from_environment()
    assert os.environ[BEHIND] == "x"
    assert (settings.origins, settings.token, settings.local) == (("http://a",), "x", True)
    with pytest.raises(RuntimeError, match="start the server with: python -m tools label serve"):
        Settings.from_environment()


def test_a_part_reads_as_a_file():
    from label_server.front.bodies import Window

    assert io.BufferedReader(Window(io.BytesIO(b"0123456789"), 2, 7)).read() == b"23456"
