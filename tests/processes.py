"""Python in processes of its own, for tests of command lines."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return this environment with one thread and without PYTHONPATH."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def isolated(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the installed packages can be imported, but not the editable install of this one.

    Without ``site`` no ``.pth`` file is read, which is how an editable install gets onto the path.
    """
    variables = environment(PYTHONPATH=sysconfig.get_path("purelib"), **more)
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def flags(overrides: dict[str, object]) -> list[str]:
    """Return overrides as command-line arguments."""
    return [text for key, value in overrides.items() for text in (f"--{key}", str(value))]
