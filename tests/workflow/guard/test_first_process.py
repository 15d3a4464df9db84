"""What the first process decides, all do."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from custom_networks.workflow.guard.first_process import in_first


@pytest.fixture
def processes(monkeypatch):
    """Return what stands for a group of two processes: the rank of this one, and what was sent."""

    class Group:
        rank = 0
        sent = None

    def broadcast(verdict):
        if Group.rank == 0:
            Group.sent = list(verdict)
        else:
            verdict[:] = Group.sent

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: Group.rank)
    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    return Group


def never():
    raise AssertionError("the first process decides")


def test_alone_a_process_decides_for_itself():
    assert in_first(lambda: 3) == 3


def test_the_others_get_what_the_first_has_decided(processes):
    assert in_first(lambda: "there") == "there"
    processes.rank = 1
    assert in_first(never) == "there"


def test_the_others_end_where_the_first_refuses(processes):
    def refuse():
        raise ValueError("the folder is in use")

    with pytest.raises(ValueError, match="the folder is in use"):
        in_first(refuse)
    processes.rank = 1
    with pytest.raises(SystemExit) as caught:
        in_first(never)
    assert caught.value.code == 1
