"""The routes of MONAI Label that are served; whatever is not in this table does not exist.

Left out: ``/proxy`` and ``/ohif`` (they need a DICOMweb server), ``/reload`` (a second app in the same process),
``/infer/wsi`` and ``/infer/wsi_v2`` (microscopy), ``/static``, ``/datastore/dataset`` (an archive of all images, made
while nobody else gets an answer, and never removed), and ``POST`` of ``/train`` and ``/scoring`` without a name (all of
them, one after the other, likewise).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from label_server.front.refusals import Refusal, shown

NAME = "([^/]+)"


@dataclass(frozen=True)
class Route:
    """What one method of one path may do.

    Args:
        method: HTTP method.
        path: regular expression of the path, without a slash at its end.
        body: ``form``, ``json`` or empty.
        task: whose names the path may end in: ``train``, ``batch``, ``scoring`` or ``activelearning``.
        switch: option of the command without which the route is off.
        does: which checks the body needs: ``image``, ``label``, ``model``, ``session``, ``infer`` or ``info``.
    """

    method: str
    path: str
    body: str = ""
    task: str = ""
    switch: str = ""
    does: str = ""

    @property
    def writes(self) -> bool:
        """Whether something may change."""
        return self.method not in ("GET", "HEAD")


ROUTES = (
    *(Route("GET", path) for path in ("", "/docs", "/openapi\\.json", "/favicon\\.ico", "/info", "/logs", "/logs/gpu")),
    Route("GET", f"/model/{NAME}"),
    Route("GET", f"/model/info/{NAME}"),
    Route("PUT", f"/model/{NAME}", body="form", switch="--allow-upload", does="model"),
    Route("DELETE", f"/model/{NAME}", switch="--allow-delete"),
    Route("POST", f"/infer/{NAME}", body="form", does="infer"),
    Route("GET", "/batch/infer"),
    Route("POST", f"/batch/infer/{NAME}", body="json", task="batch"),
    Route("DELETE", "/batch/infer"),  # stops the task
    *(
        Route(method, f"/{task}{rest}", body="json" if method == "POST" else "", task=task)
        for task in ("train", "scoring")
        for method, rest in (("GET", ""), ("POST", f"/{NAME}"), ("DELETE", ""))
    ),
    Route("POST", f"/activelearning/{NAME}", body="json", task="activelearning"),
    *(Route("GET", f"/datastore{rest}") for rest in ("", "/image", "/image/info", "/label", "/label/info")),
    *(Route("HEAD", f"/datastore/{kind}") for kind in ("image", "label")),
    *(Route("PUT", f"/datastore{rest}", body="form", does="image") for rest in ("", "/image")),
    *(Route("DELETE", f"/datastore{rest}", switch="--allow-delete") for rest in ("", "/image", "/label")),
    Route("PUT", "/datastore/label", body="form", does="label"),
    *(
        Route("PUT", f"/datastore/{rest}", body="form", does="info")
        for rest in ("image/info", "label/info", "updatelabelinfo")
    ),
    Route("GET", f"/session/{NAME}"),
    Route("PUT", "/session", body="form", does="session"),
    Route("DELETE", f"/session/{NAME}"),
)


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Return the route of a request, and the names in its path.

    Args:
        method: HTTP method.
        path: decoded path.

    Raises:
        Refusal: 404 for a path that is not served, 405 for a method that the path does not have.
    """
    methods = []
    for route in ROUTES:
        if match := re.fullmatch(f"{route.path}/?", path):
            if route.method == method:
                return route, match.groups()
            methods.append(route.method)
    if methods:
        raise Refusal(405, f"{path} takes {' and '.join(sorted(set(methods)))}, not {shown(method)}; see /")
    raise Refusal(404, f"there is nothing at {shown(path)}; see / for what there is")
