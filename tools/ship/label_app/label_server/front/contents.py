"""What is in a body: options and files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_server.front.bodies import CHUNK, Form, Part
from label_server.front.checks import Knowledge, check_images
from label_server.front.images import check_content, check_label, suffix_of
from label_server.front.names import check_name, check_options, parse_json
from label_server.front.refusals import Refusal, shown
from label_server.front.routes import Route
from label_server.front.settings import Settings


@dataclass
class Request:
    """A request whose path and query are checked.

    Args:
        route: its route.
        names: those in its path.
        query: names and values; a new image gets its name here.
        stored: whether the image that is sent is there already, under the same name and the same to the byte.
    """

    route: Route
    names: tuple[str, ...]
    query: list[tuple[str, str]]
    stored: bool = False


def check_json(request: Request, body: bytes, settings: Settings, knowledge: Knowledge) -> dict[str, Any] | None:
    """Return the options that a body holds.

    Args:
        request: the request.
        body: its body.
        settings: of the front.
        knowledge: what the app has.

    Raises:
        Refusal: if they are no JSON object or may not be.
    """
    if not body.strip():
        return None
    options = parse_json(body, "the body")
    if options is not None:
        _check_options(request, check_options(options, "the body"), settings, knowledge)
    return options


def check_form(request: Request, form: Form, settings: Settings, knowledge: Knowledge) -> None:
    """Refuse a form with options or files that may not be.

    Args:
        request: the request.
        form: its body.
        settings: of the front.
        knowledge: what the app has.

    Raises:
        Refusal: for the first of them.
    """
    files = [part for part in form.parts if part.filename is not None]
    for part in form.parts:
        if part not in files:
            text = form.text(part)
            if part.name in ("params", "info"):
                _check_field(request, part.name, parse_json(text or "{}", part.name), settings, knowledge)
    for part in files:
        check_name("file name", part.filename)
        if request.route.does == "model":
            _check_weights(request, form, part, knowledge)
            continue
        filename = str(part.filename)
        with form.open(part) as content:
            check_content(content, filename)
        if request.route.does == "label":
            _check_label(request, form, part, knowledge)
        if request.route.does == "image":
            _check_new_image(request, form, part, settings, knowledge)
    if request.route.does == "infer" and not any(part.name == "file" for part in files):
        given = dict(request.query)
        if not given.get("image") and not given.get("session_id"):
            raise Refusal(
                400,
                "there is no image to work on; give the name of one as ?image=, or send one as the file of the form",
            )
    if request.route.does == "session" and len(files) > 1:
        raise Refusal(400, f"a session takes one image, got {len(files)} files; send one")


def _check_field(request: Request, name: str, options: Any, settings: Settings, knowledge: Knowledge) -> None:
    if request.route.does == "infer":
        _check_options(request, check_options(options, name), settings, knowledge)
    elif not isinstance(options, dict):
        raise Refusal(400, f"{name} must be a JSON object, got {shown(options)}; send an object such as {{}}")
    elif options.get("name") or options.get("path"):
        raise Refusal(400, f"{name} must not say name and path, which the server does; leave them out")


def _check_options(request: Request, options: dict[str, Any], settings: Settings, knowledge: Knowledge) -> None:
    check_images(options, settings, knowledge)
    for key in ("model", "method", "strategy"):
        if request.names and key in options and options[key] != request.names[0]:
            raise Refusal(
                400, f"the option {key} is {shown(options[key])}, the path says {request.names[0]}; leave it out"
            )


def _check_weights(request: Request, form: Form, part: Part, knowledge: Knowledge) -> None:
    if not str(part.filename).endswith(".pt"):
        raise Refusal(415, f"{shown(part.filename)} is no file of weights by its name; send one that ends in .pt")
    with tempfile.TemporaryDirectory() as folder:
        form.copy(part, path := Path(folder) / "model.pt")
        if problem := knowledge.weights_problem(request.names[0], path):
            raise Refusal(422, problem)


def _check_label(request: Request, form: Form, part: Part, knowledge: Knowledge) -> None:
    with tempfile.TemporaryDirectory() as folder:
        form.copy(part, path := Path(folder) / f"label{suffix_of(str(part.filename))}")
        check_label(path, Path(knowledge.image(dict(request.query)["image"])))


def _check_new_image(request: Request, form: Form, part: Part, settings: Settings, knowledge: Knowledge) -> None:
    """Give the image its name, and refuse it where another image has that name: a label may belong to that one."""
    suffix = suffix_of(str(part.filename))
    if not dict(request.query).get("image"):
        stem = str(part.filename).removesuffix(suffix)
        request.query = [(key, value) for key, value in request.query if key != "image"] + [("image", stem)]
    name = dict(request.query)["image"]
    there = knowledge.image(name)
    request.stored = Path(there).is_file() and _is_copy(form, part, Path(there))
    if there and not request.stored and not settings.allow_delete:
        raise Refusal(
            409,
            f"there is another image {shown(name)} already; rename yours, or start the server with --allow-delete to "
            "replace it",
        )


def _is_copy(form: Form, part: Part, path: Path) -> bool:
    with form.open(part) as new, path.open("rb") as old:
        while (chunk := new.read(CHUNK)) == old.read(CHUNK):
            if not chunk:
                return True
    return False
