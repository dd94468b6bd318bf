"""Errors that the user can fix.

Each message states what was given, what was expected and how to fix it, in one or two lines. The command line prints only
the message; a traceback means a bug. Messages are written for the command line, with options (`--q0.lr-floor`); `str()`
replaces these by the names of fields and arguments (`q0.lr_floor`).
"""

from __future__ import annotations

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

OPTION = re.compile(r"""(?P<command>'(?:decouple|torchrun|python)\b[^']*')|(?<![^\s(])--(?P<name>[a-z][\w.-]*\w)""")
"""An option in a message, or a whole command in quotes, whose options are its own."""


class DecoupleError(Exception):
    """Base of every error that decouple raises on purpose.

    >>> error = ConfigError("q0.lr_floor = 2: give --q0.lr-floor another value")
    >>> print(error.message, error, sep="\\n")
    q0.lr_floor = 2: give --q0.lr-floor another value
    q0.lr_floor = 2: give q0.lr_floor another value
    """

    @property
    def message(self) -> str:
        """As the command line prints it."""
        return super().__str__()

    def __str__(self) -> str:
        return OPTION.sub(lambda found: found["command"] or found["name"].replace("-", "_"), self.message)


class ConfigError(DecoupleError, ValueError):
    """A setting is unknown, has the wrong type or is out of range."""


class SettingError(ConfigError):
    """A setting cannot have this value.

    Attributes:
        name: of the setting, "section.field" of a field of a section.
        reason: what follows its name in the message.
    """

    def __init__(self, name: str, reason: str = "", where: str = "") -> None:
        super().__init__(f"{where}: {name}{reason}" if where else f"{name}{reason}")
        self.name, self.reason = name, reason


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


class MemoryLimitError(DecoupleError, MemoryError):
    """The memory, of the device or of the machine, does not suffice; the message names what to lower."""


class WorkerError(DecoupleError):
    """Worker processes died, or the Ray cluster that they are part of failed."""


def expect(value: object, kind: type[T], what: str, hint: str = "") -> T:
    """Return the argument if it has the type; refuse it here, before a missing attribute does so three layers down.

    >>> expect("mnist", str, "name")
    'mnist'
    >>> expect(3, str, "name")
    Traceback (most recent call last):
    decouple.errors.ConfigError: name must be a str, not int

    Raises:
        ConfigError: names what was expected, what came and, with `hint`, how to mend it.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{what} must be a {kind.__name__}, not {type(value).__name__}{'; ' + hint if hint else ''}")
    return value


def first_line(error: BaseException) -> str:
    """The first line of its message; its type, where it has none.

    >>> first_line(ValueError("one\\ntwo")), first_line(KeyError())
    ('one', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def failure(error: BaseException) -> str:
    """What the user's own code raised, and at which of its lines: the last one that is neither decouple's nor a library's.

    >>> failure(ValueError("oops"))
    'ValueError: oops'
    """
    others = [
        "<frozen ",
        str(Path(__file__).parent),
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    ]
    own = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(tuple(others))]
    where = f", {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    text = first_line(error)
    return (text if text == type(error).__name__ else f"{type(error).__name__}: {text}") + where


def is_out_of_memory(error: BaseException) -> bool:
    """torch raises a class of its own on a GPU, and a RuntimeError that only its text tells from others on a CPU; and what ends a
    CUDA graph early raises another error behind the first."""
    known = (
        "alloc_cpu",
        "DefaultCPUAllocator",
        "out of memory",
        "can't allocate memory",
        "Storage size calculation overflowed",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    before = error.__context__
    here = isinstance(error, MemoryError) or any(text in str(error) for text in known)
    return here or (before is not None and is_out_of_memory(before))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to append to an "unknown name" message: the nearest name, or all of them if they are few.

    Names with dots are near if each of their parts is.

    >>> did_you_mean("mnst", ["mnist", "digits"])
    "; did you mean 'mnist'?"
    >>> did_you_mean("zzz", ["mnist", "digits"])
    '; known: digits, mnist'
    >>> did_you_mean("network.module", ["network.eps", "network.width", "search.batch"])
    '; known: network.eps, network.width'
    >>> did_you_mean("lr", ["learn.lr", "learn.epochs"])
    "; did you mean 'learn.lr'?"
    """
    known = sorted(known)
    near = [other for other in difflib.get_close_matches(name, known, n=len(known) or 1) if _is_near(name, other)]
    near = near or [other for other in known if other.rpartition(".")[2] == name]  # the section was left out
    if near:
        return f"; did you mean '{near[0]}'?"
    section = name.rpartition(".")[0] + "."
    listed = [other for other in known if other.startswith(section)] or known
    return "; known: " + ", ".join(listed) if 0 < len(listed) <= _FEW else ""


_FEW = 12
"""Names that a reader takes in."""


def _is_near(name: str, other: str) -> bool:
    parts, others = name.lstrip("-").split("."), other.lstrip("-").split(".")  # dashes make all options alike
    return len(parts) == len(others) and all(
        difflib.get_close_matches(part, [own]) for part, own in zip(parts, others, strict=True)
    )
