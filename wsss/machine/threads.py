"""Work that runs in threads beside the main one, such as packing what a GPU has computed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = min(4, len(os.sched_getaffinity(0)))


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, each after the next one was drawn: a GPU then has work while the item is used."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS
) -> Iterator[Result]:
    """Yield `work(item)` in the order of the items, computed by threads.

    The next items are drawn meanwhile; at most 2 items a thread wait, so memory stays bounded.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, work, items, 2 * threads)


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], waiting: int
) -> Iterator[Result]:
    """Yield `work(item)` of a pool in the order of the items; at most `waiting` items wait."""
    begun: deque[Future[Result]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > waiting:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
