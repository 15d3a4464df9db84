"""Parts of the MONAI Label server, without a running one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import requests
from fastapi import HTTPException
from fastapi.background import BackgroundTasks
from label_server.front.settings import ADDRESS, BEHIND
from label_server.routes import _beside
from label_server.workers import Worker
from main import BundlesApp
from monailabel.utils.sessions import Sessions


@pytest.mark.parametrize("error", [HTTPException(422, "an image that cannot be used"), None])
def test_what_was_sent_goes_with_a_refusal(tmp_path, error):
    sent = tmp_path / "sent.nii.gz"

    async def endpoint(background_tasks, model):
        sent.touch()
        background_tasks.add_task(sent.unlink)
        if error:
            raise error
        return model

    async def receive():
        await asyncio.Event().wait()

    async def ask():
        with ThreadPoolExecutor(1) as pool:
            run = _beside(endpoint, pool)
            return await run(SimpleNamespace(receive=receive), background_tasks=BackgroundTasks(), model="net")

    if error:
        with pytest.raises(HTTPException, match="cannot be used"):
            asyncio.run(ask())
    else:
        assert asyncio.run(ask()) == "net"
    assert sent.exists() == (error is None)  # with a result FastAPI removes it, when that has been read


def test_the_images_of_a_batch_keep_no_client_out(tmp_path):
    worker, client = Worker(tmp_path, "segmentation", {"queue_length": "1"}), threading.Event()
    with ExitStack() as running:
        running.enter_context(worker._turn(None))
        worker.queue.extend((None, object()) for _ in range(8))  # of the batch's other threads
        worker.queue.append((threading.Event(), object()))
        with pytest.raises(HTTPException, match="1 requests are waiting"), worker._turn(client):
            pass
        worker.queue.pop()
        client.set()
        with pytest.raises(HTTPException, match="the client has left"), worker._turn(client):  # it waited
            pass


def test_sessions_are_removed_from_the_start(tmp_path):
    (tmp_path / "half").mkdir()
    sessions = Sessions(str(tmp_path), 3600)
    BundlesApp.cleanup_sessions(SimpleNamespace(_sessions=sessions))
    assert list(tmp_path.iterdir())
    sessions.expiry = -1
    BundlesApp.cleanup_sessions(SimpleNamespace(_sessions=sessions))
    assert not list(tmp_path.iterdir())
    BundlesApp.cleanup_sessions(SimpleNamespace(_sessions=None))


def test_a_server_that_is_gone_does_not_fail_a_training(monkeypatch):
    def post(session, url, **_):
        urls.append(url)
        raise requests.ConnectionError("refused")

    urls = []
    monkeypatch.setattr(requests.Session, "post", post)
    monkeypatch.setenv(BEHIND, "token")
    monkeypatch.setenv(ADDRESS, "192.168.1.5")
    assert BundlesApp._local_request(None, "/scoring/x", None, "Scoring") is None
    assert urls[0].startswith("http://192.168.1.5:")
