"""Eight clients for two minutes, with bad requests between the good ones."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

from tests.label.conftest import SCORED, served
from tests.label.test_front import BAD

CLIENTS = 8
SECONDS = 120
WARM = 30
GROWTH = 50 * 1000**2


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    with served(tmp_path_factory.mktemp("busy"), SCORED) as server:
        yield server


class Client:
    """One of the clients; it keeps the label that it saved last, and every answer that is not as it should be."""

    def __init__(self, server, number):
        self.server, self.number = server, number
        self.random = random.Random(number)
        self.image = "abcd"[number % 4]
        self.tag = f"client{number}"
        self.saved = None
        self.counts = {"label": 0, "infer": 0, "read": 0, "next": 0, "bad": 0}
        self.wrong = []

    def work(self, until):
        turns = ["label", "read", "next", "bad", "bad", "bad"]
        while time.monotonic() < until:
            turn = "infer" if self.random.random() < 0.05 else self.random.choice(turns)
            self.counts[turn] += 1
            try:
                getattr(self, turn)()
            except requests.RequestException as error:
                self.wrong.append((turn, str(error)))

    def expect(self, turn, answer, status=200):
        if answer.status_code != status:
            self.wrong.append((turn, answer.status_code, answer.text[:300]))
        return answer

    def label(self):
        good = nib.load(self.server.labels / f"{self.image}.nii.gz")
        values = np.asarray(good.dataobj).astype(np.uint8)
        values.flat[: self.number + 1] = self.random.randrange(3)
        values.flat[-1] = self.counts["label"] % 3
        content = nib.Nifti1Image(values, good.affine).to_bytes()
        answer = self.server.ask(
            "PUT",
            "/datastore/label",
            params={"image": self.image, "tag": self.tag},
            files={"label": (f"{self.image}.nii", content)},
        )
        if self.expect("label", answer).ok:
            self.saved = content

    def infer(self):
        self.expect("infer", self.server.infer(SCORED, self.image))

    def read(self):
        path = self.server.studies / f"{self.image}.nii.gz"
        answer = self.expect("read", self.server.get("/datastore/image", image=self.image))
        if answer.content != path.read_bytes():
            self.wrong.append(("read", "another image"))

    def next(self):
        self.expect("next", self.server.ask("POST", "/activelearning/random", json={"client_id": self.tag}))

    def bad(self):
        name = self.random.choice(sorted(BAD))
        method, path, options, status = BAD[name]
        answer = self.expect(name, self.server.ask(method, path, **options), status)
        try:
            said = answer.json()["detail"]
        except (ValueError, KeyError):
            said = None
        if not isinstance(said, str) or "\n" in said:
            self.wrong.append((name, answer.status_code, answer.text[:300]))


def memory(pid):
    """Return the bytes that the server and what it has started hold."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in processes)


@pytest.mark.timeout(600)
def test_eight_clients_with_bad_requests_between(busy):
    clients = [Client(busy, number) for number in range(CLIENTS)]
    begin = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for seconds in (WARM, SECONDS):
            list(pool.map(lambda client, until=begin + seconds: client.work(until), clients))
            if seconds == WARM:
                warm = memory(busy.pid)
    wrong = [answer for client in clients for answer in client.wrong]
    assert {answer[:2]: answer for answer in wrong} == {}  # one of each kind
    assert memory(busy.pid) - warm < GROWTH
    objects = busy.get("/datastore/", output="all").json()["objects"]
    for client in clients:
        assert client.saved is not None
        assert client.tag in objects[client.image]["labels"]
        assert (busy.studies / "labels" / client.tag / f"{client.image}.nii").read_bytes() == client.saved
    assert busy.get("/info/").ok
    print({name: sum(client.counts[name] for client in clients) for name in clients[0].counts}, warm, memory(busy.pid))
