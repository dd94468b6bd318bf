"""Errors that the user can mend.

Every one says what came, what was expected and how to mend it, in one or two lines. The command line prints the
message alone; a traceback is left for bugs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DecoupleError(Exception):
    """Base of every error that decouple raises on purpose."""


class ConfigError(DecoupleError, ValueError):
    """A setting is unknown, has the wrong type or is out of range."""


class DataError(DecoupleError, ValueError):
    """Images or labels are missing or unusable."""


class NetworkError(DecoupleError, ValueError):
    """A network cannot be built, or cannot be cut where it was asked to be."""


class RunDirectoryError(DecoupleError):
    """A run directory is in use, belongs to another configuration or cannot be written."""


class DamagedFileError(RunDirectoryError):
    """A file of a run directory is truncated, altered or not the one that its name says."""


class NotFiniteError(DecoupleError, ArithmeticError):
    """A loss or an activation became NaN or infinite; the message names the step."""


class WorkerError(DecoupleError):
    """Worker processes died, or the Ray cluster that they are part of failed."""


def expect(value: object, kind: type, what: str, hint: str = "") -> None:
    """Refuse an argument of another type, before an attribute that it lacks does so three layers down.

    >>> expect(3, str, "name")
    Traceback (most recent call last):
    decouple.errors.ConfigError: name must be a str, not int

    Raises:
        ConfigError: names what was expected, what came and, with `hint`, how to mend it.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{what} must be a {kind.__name__}, not {type(value).__name__}{'; ' + hint if hint else ''}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to append to an "unknown name" message.

    >>> did_you_mean("mnst", ["mnist", "digits"])
    "; did you mean 'mnist'?"
    >>> did_you_mean("zzz", ["mnist", "digits"])
    '; known: digits, mnist'
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return "; known: " + ", ".join(known)
