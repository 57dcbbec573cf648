"""Termination signals, put off.

Goal: what must not be interrupted is not, and the interruption comes right after, once.
Method: signals to this very process, with a handler that raises as Dagster's does.
"""

import signal
from contextlib import contextmanager

import pytest

from k2i_core.interrupts import interrupts_held_back, interrupts_ignored


class InterruptedError_(BaseException):  # noqa: N801 - the builtin has the better name
    """As Dagster's own."""


@contextmanager
def dagster_handler():
    def interrupt(_number, _frame):
        raise InterruptedError_

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_held_back_until_the_end(number):
    done = []

    def store() -> None:
        with interrupts_held_back():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("stored")
        done.append("never")

    with dagster_handler(), pytest.raises(InterruptedError_):
        store()

    assert done == ["stored"]


def test_without_a_signal_nothing_happens():
    with dagster_handler(), interrupts_held_back():
        pass


def test_signals_that_are_ignored_never_come():
    with dagster_handler(), interrupts_ignored():
        signal.raise_signal(signal.SIGINT)


def test_the_handlers_are_back_afterwards():
    with dagster_handler() as handler:
        with interrupts_ignored(), interrupts_held_back():
            pass
        assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGTERM) is handler
