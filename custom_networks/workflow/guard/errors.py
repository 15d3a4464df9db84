"""Every error of a run as one sentence on the command line."""

from __future__ import annotations

import os
import re
import sys
import threading
from types import TracebackType
from typing import Any

from custom_networks.failures import chain_of, on_one_line, sentence_about_files, sentence_of, write_log
from custom_networks.workflow.guard.interrupts import PROGRESS, Terminated, catch_sigterm, exit_code, say_interrupted
from custom_networks.workflow.guard.lost_processes import lost_process

REFERENCE = re.compile(r"@(\w+)")
LAUNCHED = ("RANK", "LOCAL_RANK")
NO_GPU = "Cannot find any GPU devices."
"""What MONAI's ``trt_export`` says where there is none."""


def describe(error: BaseException) -> str:
    """Return any error of a run in one sentence; the traceback of one that nobody foresaw goes to a file it names.

    Such a file lies in ``output_dir``, or in the folder for temporary files as long as that is not known.

    Args:
        error: the error that arrived.
    """
    if sentence := sentence_of(error):
        return sentence
    chain = list(chain_of(error))
    if said := sentence_about_files(error, PROGRESS.output_dir):
        return said
    if lost := lost_process(chain):
        return lost
    cause = error
    while cause.__cause__ is not None:  # a context is what was being handled, which need not be the reason
        cause = cause.__cause__
    if isinstance(cause, KeyError) and cause.args[:1] in [(name,) for name in LAUNCHED]:
        return (
            "the multi_gpu configs are for several processes; start them with torchrun --nproc_per_node N -m "
            "monai.bundle run, or leave them out"
        )
    if str(cause) == NO_GPU:
        return (
            "trt_export needs an NVIDIA GPU, and torch finds none here; run it on a machine with one, or write ONNX by "
            "onnx_export, which ONNX Runtime runs by TensorRT"
        )
    what = f"{type(cause).__name__}: {_reason(cause)}"
    return f"{_place(chain)} ({what}); {write_log(error, PROGRESS.output_dir)}"


def _reason(cause: BaseException) -> str:
    """Return the message of an error, of one that carries a worker's traceback the last line."""
    text = str(cause).strip()
    return text.splitlines()[-1] if "Traceback (most recent call last)" in text else on_one_line(cause)


def _place(chain: list[BaseException]) -> str:
    """Return which part of the config failed, and the knobs that it takes."""
    found: dict[str, Any] = {}
    for seen in chain:
        traceback = seen.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_name == "_resolve_one_item":  # of MONAI's resolver
                found = dict(traceback.tb_frame.f_locals)
            traceback = traceback.tb_next
    config, name = found.get("item_config"), str(found.get("id", ""))
    if isinstance(config, dict) and "_target_" in config:
        name = str(config["_target_"]).rpartition(".")[2] if name.startswith(("run", "initialize")) else name
    elif not name or name.startswith(("run", "initialize", "finalize")):
        return "the run failed"
    resolved = getattr(found.get("self"), "resolved_content", {})
    values = [config] if isinstance(config, str) else config.values() if isinstance(config, dict) else []
    knobs = dict.fromkeys(knob for value in values for knob in REFERENCE.findall(str(value)))
    plain = [
        f"{knob} {resolved[knob]!r}"
        for knob in knobs
        if isinstance(resolved.get(knob), str | int | float | list | tuple | None) and knob in resolved
    ]
    return f"{name.replace('::', '#')} failed" + (f" with {', '.join(plain)}" if plain else "")


def _close_progress_bars() -> None:
    """Draw progress bars for the last time, which would be when the interpreter ends, below the sentence."""
    shown = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(shown, "_instances", ())):
        bar.close()


def on_the_command_line() -> bool:
    """Return whether this process was started as ``python -m monai.bundle``."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    return main is not None and main.name.startswith("monai.bundle")


def report_errors() -> None:
    """On the command line, end with one sentence instead of MONAI's chain of tracebacks.

    Only in a process started as ``python -m monai.bundle``. The exit code stays 1. Ctrl-C and SIGTERM end with what is
    saved and how to go on, and the exit codes 130 and 143.
    """
    if not on_the_command_line():
        return
    catch_sigterm()

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        _close_progress_bars()
        below = "\n" * sys.stderr.isatty()  # a progress bar may stand on the line
        if not isinstance(error, KeyboardInterrupt):
            sys.stderr.write(f"{below}error: {describe(error)}\n")
            return
        # Ctrl-C reaches every process, SIGTERM the one that lost another, too
        if os.environ.get("RANK", "0") == "0" or isinstance(error, Terminated):
            # torch's hook of a run of several processes lets this one write to a buffer, and loses it at SystemExit
            print(f"{below}{say_interrupted()}", file=sys.__stderr__, flush=True)
        raise SystemExit(exit_code(error))

    def thread_hook(arguments: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread that writes meets a full disk first, and tells whoever writes next
        if not isinstance(arguments.exc_value, OSError):
            threading.__excepthook__(arguments)

    sys.excepthook = hook
    threading.excepthook = thread_hook
