"""Whether what a request names exists, and may be named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from label_server.front.names import QUERY_NAMES, check_name, inside
from label_server.front.refusals import Refusal, shown
from label_server.front.routes import Route
from label_server.front.settings import Settings

CHOICES = ("all", "labeled", "unlabeled")
WHAT = {
    "train": "model {} to train",
    "batch": "model {}",
    "scoring": "scoring method {}",
    "activelearning": "strategy {}",
}


class Knowledge(Protocol):
    """What the front asks the app."""

    def names(self, task: str) -> Sequence[str]:
        """Return what a task may run.

        Args:
            task: ``train``, ``batch``, ``scoring`` or ``activelearning``.
        """

    def image(self, name: str) -> str:
        """Return the file of an image, or nothing.

        Args:
            name: its id.
        """

    def weights_problem(self, model: str, file: Path) -> str:
        """Return what keeps a file from being the weights of a model, or nothing.

        Args:
            model: name of the model.
            file: the weights.
        """


def check_query(
    route: Route, names: tuple[str, ...], query: list[tuple[str, str]], settings: Settings, knowledge: Knowledge
) -> None:
    """Refuse what path and query name and may not, or what is not there.

    Args:
        route: of the request.
        names: those in the path.
        query: names and values.
        settings: of the front.
        knowledge: what the app has.

    Raises:
        Refusal: for the first of them.
    """
    for name in names:
        check_name("name", name)
    if route.task and names:
        check_task(route.task, names[0], knowledge)
    given = dict(query)
    session = given.get("session_id", "")
    for key, value in query:
        if key == "image" and value and route.does == "infer" and not session:
            check_image(value, settings, knowledge)
        elif key in QUERY_NAMES:
            check_name(key, value)
    if route.does == "label" or (route.does == "info" and "image" in given):
        check_image(given.get("image", ""), settings, knowledge, by_name=True)
    if route.does == "session" and given.get("uncompress", "false").lower() not in ("false", "0", "no", "off"):
        raise Refusal(400, "archives are not unpacked; send the image itself, without uncompress")
    if session and not (Path(settings.sessions) / session).is_dir():
        raise Refusal(404, f"there is no session {shown(session)}; it may have expired: send the image again")


def check_task(task: str, name: str, knowledge: Knowledge) -> None:
    """Refuse a model, method or strategy that the server does not have.

    Args:
        task: ``train``, ``batch``, ``scoring`` or ``activelearning``.
        name: of the model, method or strategy.
        knowledge: what the app has.

    Raises:
        Refusal: 404.
    """
    known = knowledge.names(task)
    if name not in known:
        uses = f"use one of {', '.join(known)}" if known else "this server has none"
        raise Refusal(404, f"there is no {WHAT[task].format(shown(name))}; {uses}")


def check_image(image: object, settings: Settings, knowledge: Knowledge, by_name: bool = False) -> None:
    """Refuse an image that is neither one of the studies nor a file in their folder.

    Args:
        image: id or absolute path.
        settings: of the front.
        knowledge: what the app has.
        by_name: whether a path will not do.

    Raises:
        Refusal: 400 for a name that is none, 403 for a path outside the folders, 404 for an unknown image.
    """
    text = str(image)
    is_path = "/" in text or "\\" in text
    if isinstance(image, str) and is_path and not by_name:
        if not Path(text).is_absolute() or not inside(text, settings.folders):
            raise Refusal(403, f"{shown(image)} is not in the folder of images, {settings.studies}; send its name")
        return
    check_name("image", image)
    if not knowledge.image(text):
        raise Refusal(404, f"there is no image {text} in {settings.studies}; add it there, or send another name")


def check_images(options: dict[str, Any], settings: Settings, knowledge: Knowledge) -> None:
    """Refuse images in options that are neither of the studies nor in their folder.

    Args:
        options: of a request, also one for several models.
        settings: of the front.
        knowledge: what the app has.

    Raises:
        Refusal: see :func:`check_image`.
    """
    for key, value in options.items():
        if key == "image":
            check_image(value, settings, knowledge)
        if key == "images" and value not in (*CHOICES, None):
            for image in value if isinstance(value, list) else [value]:
                check_image(image, settings, knowledge)
        if isinstance(value, dict):
            check_images(value, settings, knowledge)
