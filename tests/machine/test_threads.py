"""Work in threads: order, bounded waiting, errors."""

import threading
from collections.abc import Iterator

import pytest

from wsss.machine.threads import in_threads, one_ahead


def test_results_come_in_the_order_of_the_items() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later.wait(10)  # the first item is done after the second one
        if item == 1:
            later.set()
        return item * item

    assert list(in_threads(work, range(20), 2)) == [item * item for item in range(20)]


def test_few_items_wait_at_a_time() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            drawn.append(item)
            yield item

    results = in_threads(lambda item: item, items(), 2)
    assert next(results) == 0
    assert len(drawn) <= 2 * 2 + 1


def test_an_error_in_a_thread_stops_the_work() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("item 3 is odd")
        return item

    with pytest.raises(ValueError, match="item 3 is odd"):
        list(in_threads(work, range(10), 2))


def test_an_item_is_used_after_the_next_one_was_drawn() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            drawn.append(item)
            yield item

    used = [(item, len(drawn)) for item in one_ahead(items())]
    assert used == [(0, 2), (1, 3), (2, 3)]
    assert list(one_ahead([])) == []
