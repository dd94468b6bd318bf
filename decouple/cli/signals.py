"""What Ctrl-C and SIGTERM do: every file is whole at any moment, so a command may end where it is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class Interrupted(BaseException):
    """A signal has ended the command."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def on_signal(react: Callable[[int], NoReturn]) -> Iterator[None]:
    """Call `react` with the number of a signal that comes in between."""
    before = {number: signal.signal(number, lambda number, _: react(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def unwind(number: int) -> NoReturn:
    """Leave the work step by step, with what it has opened.

    Not while packages are imported: an exception there is swallowed by those that try what they import.
    """
    raise Interrupted(number)
