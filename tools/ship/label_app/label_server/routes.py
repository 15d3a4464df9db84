"""Routes that compute, run beside the loop that answers all others, and told when their client leaves.

MONAI Label computes in the loop itself: while one image is segmented, nobody else gets an answer, and nobody notices
that the client has left.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from monailabel.config import settings

from label_server.workers import GONE


def run_beside_the_loop(app: FastAPI, threads: int) -> None:
    """Put routes that compute before those of MONAI Label.

    Args:
        app: the application of MONAI Label.
        threads: how many requests may be computed or wait for it.
    """
    from monailabel.endpoints import batch_infer, infer, scoring, train, wsi_infer

    pool = ThreadPoolExecutor(threads, thread_name_prefix="REQUEST")
    for path, endpoint in {
        "/infer/{model}": infer.api_run_inference,
        "/infer/wsi/{model}": wsi_infer.api_run_wsi_inference,
        "/infer/wsi_v2/{model}": wsi_infer.api_run_wsi_v2_inference,
        "/batch/infer/{model}": batch_infer.api_run,
        "/scoring/{method}": scoring.api_run_method,
        "/train/{model}": train.api_run_model,
    }.items():
        route = APIRoute(
            settings.MONAI_LABEL_API_STR + path, _beside(endpoint, pool), methods=["POST"], include_in_schema=False
        )
        app.router.routes.insert(0, route)


def _beside(endpoint: Callable[..., Any], pool: ThreadPoolExecutor) -> Callable[..., Any]:
    """Return an endpoint that takes the same arguments and computes in a thread."""

    async def run(http: Request, **values: Any) -> Any:
        if not values.get("run_sync", True):  # a task in the background, which has a process of its own
            return await endpoint(**values)
        gone = threading.Event()
        GONE.set(gone)
        watcher = asyncio.create_task(_watch(http, gone))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, copy_context().run, asyncio.run, endpoint(**values))
        except Exception:
            if tasks := values.get("background_tasks"):  # they remove what was sent; FastAPI runs them after a result
                await tasks()
            raise
        finally:
            watcher.cancel()

    known = inspect.signature(endpoint)
    http = inspect.Parameter("http", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    run.__signature__ = known.replace(parameters=[*known.parameters.values(), http])  # type: ignore[attr-defined]
    return run


async def _watch(http: Request, gone: threading.Event) -> None:
    """Wait until the client leaves; the body of the request has been read."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
    gone.set()
