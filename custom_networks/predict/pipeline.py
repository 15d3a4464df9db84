"""Reading, the network and writing of different images at the same time, each image by itself where one fails."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any


@dataclass
class Done:
    """What became of one image.

    Args:
        item: what was given.
        value: what the last stage returned, None if one failed.
        error: the exception that ended it, None if all went well.
        seconds: how long each stage took, by its name.
    """

    item: Any
    value: Any = None
    error: Exception | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run_stages(
    items: Sequence[Any],
    read: Callable[[Any], Any],
    network: Callable[[Any, Any], Any],
    write: Callable[[Any, Any], Any],
    *,
    jobs: int,
    alone: Callable[[Any], bool] = lambda item: False,
) -> Iterator[Done]:
    """Pass every item through three stages, the first and the last in threads of their own, and yield them in order.

    While the network is at work on one item, the next ``jobs`` are read and up to ``jobs`` of those before are written.
    An exception ends its item only.

    Args:
        items: the items.
        read: first stage, from an item.
        network: second stage, from an item and what was read, in the calling thread.
        write: third stage, from an item and what the network returned.
        jobs: threads for reading, and for writing; at most so many items wait at either end.
        alone: whether an item needs the memory of the machine for itself: no other is then in the works.

    Example:
        >>> stages = (int, lambda item, number: 1 / number, lambda item, value: f"{value:g}")
        >>> [done.value or type(done.error).__name__ for done in run_stages(["2", "0", "a"], *stages, jobs=1)]
        ['0.5', 'ZeroDivisionError', 'ValueError']
    """
    waiting = deque(items)
    reading: deque[tuple[Done, Future[Any]]] = deque()
    writing: deque[tuple[Done, Future[Any] | None]] = deque()

    def timed(stage: str, done: Done, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            done.seconds[stage] = time.perf_counter() - start

    def finish(done: Done, future: Future[Any] | None) -> Done:
        if future is not None:
            _keep(done, lambda: setattr(done, "value", future.result()))
        return done

    with ThreadPoolExecutor(jobs) as readers, ThreadPoolExecutor(jobs) as writers:
        try:
            while waiting or reading:
                while waiting and len(reading) <= jobs and not any(alone(done.item) for done, _ in reading):
                    if alone(waiting[0]):
                        if reading:
                            break
                        while writing:
                            yield finish(*writing.popleft())
                    done = Done(waiting.popleft())
                    reading.append((done, readers.submit(timed, "read", done, read, done.item)))
                done, future = reading.popleft()
                content = _keep(done, future.result)
                if done.error is None:
                    content = _keep(done, partial(timed, "network", done, network, done.item, content))
                writer = None
                if done.error is None:
                    writer = writers.submit(timed, "write", done, write, done.item, content)
                del content
                writing.append((done, writer))
                while writing and (len(writing) > jobs or _is_over(writing[0][1]) or alone(done.item)):
                    yield finish(*writing.popleft())
            while writing:
                yield finish(*writing.popleft())
        except BaseException:  # Ctrl-C: nothing new is read, and what the network has done is written
            readers.shutdown(cancel_futures=True)
            raise


def _is_over(future: Future[Any] | None) -> bool:
    return future is None or future.done()


def _keep(done: Done, step: Callable[[], Any]) -> Any:
    """Return what a step returns, or keep its exception."""
    try:
        return step()
    except Exception as error:  # one image is no reason to end the others
        done.error = error
        return None
