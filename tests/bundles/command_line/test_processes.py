"""Leaving the processes of a run."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.processes import environment

pytestmark = pytest.mark.slow

# With the threads of gloo alive, an interpreter that ends now and then aborts, after all its work is done.
SCRIPT = """
import os, sys, torch
from custom_networks.workflow import end_processes, start_processes


def threads():
    tasks = os.listdir("/proc/self/task")
    return sum("gloo" in open(f"/proc/self/task/{task}/comm").read() for task in tasks)

start_processes(torch.device("cpu"))
network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
network(torch.ones(2, 3)).sum().backward()
before = threads()
end_processes(network)
# One write of one line: both processes share the output.
os.write(1, f"{before > 0} {threads()} {torch.distributed.is_initialized()}\\n".encode())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_no_thread_of_the_other_processes_is_left(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert Counter(result.stdout.splitlines()) == {"True 0 False": 2}
