"""Files, options and forms that the front of the MONAI Label server lets through."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from urllib.parse import urlencode

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from label_server.front.images import HEAD

from tests.tools.ship.label_front.label_client import BEARER, GONE, HERE, TOKEN, Client, form, nifti, volume


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


NRRD = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 3 3\nencoding: raw\n"
MHA = b"ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"
LOCAL, ELSEWHERE = b"ElementDataFile = LOCAL\n", b"ElementDataFile = /etc/passwd\n"
"""ITK reads the files below that name another one."""
JUNK = {
    "text as nii.gz": ("a.nii.gz", b"import os"),
    "gzip of text": ("a.nii.gz", gzip.compress(b"import os" * 100)),
    "nii.gz as nii": ("a.nii", gzip.compress(bytes(400))),
    "a pickle": ("a.nrrd", b"\x80\x04K\x01."),
    "a detached nrrd": ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\ndata file: /etc/passwd\n\n"),
    "a detached mha": ("a.mha", b"ObjectType = Image\nNDims = 3\nElementDataFile = /etc/passwd\n"),
    "a detached nrrd after a long comment": ("a.nrrd", NRRD + b"# a comment\n" * 6000 + b"data file: /etc/passwd\n"),
    "a detached nrrd after a lone return": (
        "a.nrrd",
        NRRD + b"content: x\rDataFile: /etc/passwd\n\n" + bytes(27),
    ),
    "a detached nrrd after what is not ASCII": ("a.nrrd", NRRD + b"\xffdata file: /etc/passwd\n\n" + bytes(27)),
    "a detached mha after a row that is too short": ("a.mha", MHA + b"Origin = 1\n" + LOCAL + ELSEWHERE),
    "a detached mha after a line without a name": ("a.mha", MHA + b"a line\n" + LOCAL + ELSEWHERE),
    "a detached mha after a long comment": (
        "a.mha",
        MHA + b"Origin = 1\n" + LOCAL + b"Comment = ".ljust(HEAD - len(MHA) - 45, b"x") + b"\n" + ELSEWHERE,
    ),
    "an mha of a folder named LOCAL": ("a.mha", MHA + b"ElementDataFile = LOCAL /../x\n"),
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
    for sender in (client, Client(tmp_path, allow_delete=True)):
        status, _, said = sender.ask("PUT", "/datastore/?image=a", **form(("file", "x.nii.gz", same)))
        assert (status, said, sender.inner.asked) == (200, {"image": "a"}, [])  # its labels would be forgotten
    for sent in (("file", "x.nii.gz", other), ("file", "x.nii", gzip.decompress(same))):
        status, sentence = client.refused("PUT", "/datastore/?image=a", **form(sent))
        assert (status, sentence[:37]) == (409, "there is another image 'a' already; r")
    assert (
        Client(tmp_path, allow_delete=True).ask("PUT", "/datastore/?image=a", **form(("file", "x.nii.gz", other)))[0]
        == 200
    )


def test_two_images_of_a_new_name_at_once(client):
    asked = []

    async def inner(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        asked.append(scope)
        await asyncio.sleep(0)
        (client.studies / "new.nii.gz").write_bytes(nifti(volume()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    client.front._app = inner
    statuses = []

    async def put(size):
        sent = form(("file", "x.nii.gz", nifti(volume(shape=(size, 3, 3)))))
        headers = [(name.encode(), value.encode()) for name, value in {**HERE, **sent["headers"]}.items()]
        scope = {"type": "http", "method": "PUT", "path": "/datastore/", "query_string": b"image=new"}

        async def receive():
            return {"type": "http.request", "body": sent["body"]}

        async def send(message):
            statuses.append(message.get("status"))

        await client.front({**scope, "headers": headers}, receive, send)

    async def both():
        await asyncio.gather(put(3), put(5))

    asyncio.run(both())
    assert sorted(filter(None, statuses)) == [200, 409]
    assert len(asked) == 1


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
    "nothing for an image": {"image": ""},
    "no text for an image": {"image": None},
    "a text for a number": {"max_epochs": "x"},
    "no epochs": {"max_epochs": 0},
    "half a worker": {"max_workers": 0.5},
    "yes for a number": {"max_batch_size": True},
    "all for validation": {"val_split": 1},
    "none for validation": {"val_split": 0},
    "another validation": {"val_split": -1},
    "a share in words": {"val_split": "x"},
    "GPUs by name": {"gpus": "a,b"},
    "a number for a device": {"device": 5},
    "no weights": {"model_filename": []},
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


def test_a_part_reads_as_a_file():
    from label_server.front.bodies import Window

    assert io.BufferedReader(Window(io.BytesIO(b"0123456789"), 2, 7)).read() == b"23456"
