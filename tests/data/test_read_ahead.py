"""Reading ahead changes when things are read, and nothing else."""

import threading

import pytest

from dastc.data.read_ahead import read_ahead


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "read_ahead"]


def test_order_and_number_stay():
    assert list(read_ahead(range(100), ahead=3)) == list(range(100))
    assert list(read_ahead([])) == []
    assert not alive()


def test_at_most_so_many_items_wait():
    taken, bound = [], 3
    reading = read_ahead((taken.append(i) or i for i in range(50)), ahead=bound)
    for i, item in enumerate(reading):
        assert item == i
        # those that wait, the one in hand, and the one that the thread holds out
        assert len(taken) <= i + 1 + bound + 1
    assert len(taken) == 50


def test_the_work_is_done_in_another_thread():
    def names():
        yield threading.current_thread().name

    assert list(read_ahead(names())) == ["read_ahead"]


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise OSError("disk")

    reading = read_ahead(broken())
    assert next(reading) == 1
    with pytest.raises(OSError, match="disk"):
        next(reading)
    assert not alive()


def test_who_stops_early_leaves_no_thread_and_closes_the_source():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    reading = read_ahead(endless(), ahead=2)
    next(reading)
    reading.close()
    assert not alive()
    assert closed == [True]


def test_at_least_one_item_may_wait():
    with pytest.raises(ValueError, match="read_ahead: `ahead` must be at least 1; got 0"):
        read_ahead([], ahead=0)
