"""Three stages: in order, at the same time, one failure by itself, and bounded."""

from __future__ import annotations

import threading

import pytest

from custom_networks.predict.pipeline import run_stages

PATIENCE = 20  # seconds that a test waits for another thread before it fails


def same(item, content=None):
    return item


@pytest.mark.parametrize("jobs", [1, 3])
def test_order_and_values(jobs):
    items = list(range(10))
    found = list(
        run_stages(items, lambda i: i + 1, lambda i, read: (i, read * 2), lambda i, value: (i, value), jobs=jobs)
    )
    assert [done.item for done in found] == items
    assert [done.value for done in found] == [(i, (i, 2 * (i + 1))) for i in items]
    assert all(set(done.seconds) == {"read", "network", "write"} for done in found)


@pytest.mark.parametrize("stage", ["read", "network", "write"])
def test_a_failure_in_any_stage_ends_its_item_only(stage):
    def fail(item, content=None):
        if item == 2:
            raise ValueError("two")
        return item

    stages = {"read": same, "network": same, "write": same, stage: fail}
    found = list(run_stages(range(5), *stages.values(), jobs=2))
    assert [str(done.error) if done.error else done.value for done in found] == [0, 1, "two", 3, 4]


def test_the_next_is_read_and_the_last_written_while_the_network_works():
    third_is_read, first_waits = threading.Event(), threading.Event()

    def read(item):
        if item == 2:
            third_is_read.set()
        return item

    def network(item, content):
        if item == 1:
            assert third_is_read.wait(PATIENCE)
            first_waits.set()  # what is written before ends only now
        return item

    def write(item, content):
        if item == 0:
            assert first_waits.wait(PATIENCE)
        return item

    assert [done.value for done in run_stages(range(4), read, network, write, jobs=1)] == [0, 1, 2, 3]


def test_no_more_is_held_than_jobs_at_either_end():
    lock = threading.Lock()
    held, most = set(), []

    def read(item):
        with lock:
            held.add(item)
            most.append(len(held))
        return item

    def write(item, content):
        with lock:
            held.remove(item)

    list(run_stages(range(30), read, same, write, jobs=2))
    # two read ahead, one in the network, two being written, and one that has just been given to a writer
    assert max(most) <= 6


def test_an_item_that_needs_all_memory_is_in_the_works_by_itself():
    lock = threading.Lock()
    held, beside = set(), {}

    def read(item):
        with lock:
            held.add(item)
            for one in held:
                beside.setdefault(one, set()).update(held)
        return item

    def write(item, content):
        with lock:
            held.remove(item)

    found = list(run_stages(range(12), read, same, write, jobs=2, alone=lambda item: item in (0, 4, 5, 11)))
    assert [done.item for done in found] == list(range(12))
    for item in (0, 4, 5, 11):
        assert beside[item] == {item}
    assert any(len(beside[item]) > 1 for item in (6, 7, 8))


def test_ctrl_c_begins_nothing_new_and_writes_what_was_begun():
    begun, written = [], []

    def read(item):
        begun.append(item)
        return item

    def network(item, content):
        if item == 2:
            raise KeyboardInterrupt
        return item

    with pytest.raises(KeyboardInterrupt):
        list(run_stages(range(50), read, network, lambda item, content: written.append(item), jobs=1))
    assert max(begun) <= 4
    assert written == [0, 1]
