"""Tasks side by side: which seats there are, that a failure ends no other, and that an interruption ends all."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from custom_networks.studies import side_by_side
from custom_networks.studies.children import CHILDREN
from custom_networks.studies.side_by_side import Seat, run_all, seats
from custom_networks.workflow.guard.interrupts import Terminated


@pytest.mark.parametrize(
    ("cores", "jobs", "threads"), [(8, 1, [None]), (8, 2, [4, 4]), (8, 3, [2, 2, 2]), (2, 3, [1, 1, 1])]
)
def test_jobs_share_the_processors(monkeypatch, cores, jobs, threads):
    monkeypatch.setattr(side_by_side, "cores", lambda: cores)
    assert [seat.threads for seat in seats(jobs)] == threads
    assert all(seat.device is None for seat in seats(jobs))


def test_every_device_is_a_seat():
    assert seats(devices="cuda:0, cuda:1,cpu") == [Seat(device="cuda:0"), Seat(device="cuda:1"), Seat(device="cpu")]


@pytest.mark.parametrize(
    ("jobs", "devices", "said"),
    [
        (0, None, "--jobs must be a number from 1, got 0"),
        (2, "cuda:0", "exclude each other; leave one of them out"),
        (1, "cuda:0,gpu1", "--devices must name devices with commas between them, got 'gpu1'"),
        (1, "", "got ''"),
    ],
)
def test_other_seats_are_refused(jobs, devices, said):
    with pytest.raises(ValueError, match=said):
        seats(jobs, devices)


def test_what_a_seat_says_to_a_process():
    assert Seat(3).environment() == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    assert Seat().environment() == {}
    assert Seat(device="cuda:1").knobs() == {"device": "cuda:1"}
    assert Seat(3).knobs() == {}


def test_as_many_run_at_once_as_there_are_seats_and_never_two_in_one():
    taken, met = [], threading.Barrier(2, timeout=30)
    lock = threading.Lock()

    def task(seat):
        with lock:
            assert seat not in taken
            taken.append(seat)
        met.wait()  # which needs two at once
        with lock:
            taken.remove(seat)
        met.wait()

    assert run_all({str(number): task for number in range(4)}, [Seat(device="cuda:0"), Seat(device="cuda:1")]) == {}


def test_a_failure_ends_no_other_and_is_named():
    done = []

    def fail(seat):
        raise RuntimeError("the disk is full")

    tasks = {"c": done.append, "b": fail, "a": fail, "d": done.append}
    failed = run_all(tasks, [Seat(1)])
    assert list(failed) == ["b", "a"]
    assert str(failed["b"]) == "the disk is full"
    assert done == [Seat(1)] * 2


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_an_interruption_asks_all_to_end_and_begins_no_other(number, kind):
    begun = []

    def task(seat):
        begun.append(seat)
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            CHILDREN.pause(30)

    with pytest.raises(kind):
        run_all({"a": task, "b": task}, [Seat()])
    assert len(begun) == 1
    CHILDREN.pause(0)  # others may begin again
