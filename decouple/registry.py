"""Search algorithms by name: decouple's own, those that were registered or installed, and code that the user names.

Nothing here imports torch, and an algorithm is imported when it is used.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from decouple import own_code
from decouple.errors import ConfigError, SettingError, did_you_mean

if TYPE_CHECKING:
    from decouple.search.algorithm import Algorithm

GROUP = "decouple.algorithms"
"""Entry points of installed packages: NAME = "package.module:Class"."""
EVOTORCH = "evotorch:"
"""Before the name of any of EvoTorch's algorithms: evotorch:SNES."""

OWN = {
    "es": "decouple.search.es:EvolutionStrategy",
    "paper": "decouple.search.paper:PaperSearch",
    "pgpe": "decouple.search.stock:Pgpe",
    "cem": "decouple.search.stock:Cem",
    "random": "decouple.search.random_search:RandomSearch",
    "gradient": "decouple.search.gradient:GradientAscent",
}
"""decouple's own."""
_registered: dict[str, type[Algorithm]] = {}


def names() -> list[str]:
    """The names that `SearchConfig.algorithm` takes, beside code."""
    return list(dict.fromkeys([*OWN, *_registered, *(point.name for point in _installed())]))


def register(name: str, algorithm: type[Algorithm]) -> type[Algorithm]:
    """Give an algorithm a name for `SearchConfig.algorithm`, in this process.

    A package that is installed does the same by an entry point in the group that `GROUP` names.

    Raises:
        ConfigError: the name is another algorithm's, or contains a colon; or this is no subclass of `Algorithm`.
    """
    _expect_algorithm(algorithm, name)
    if ":" in name:
        raise ConfigError(
            f"the name '{name}' has a colon, as addresses of code have: register {algorithm.__name__} under another name"
        )
    if name in names() and _registered.get(name) is not algorithm:
        raise ConfigError(f"the name '{name}' is taken: register {algorithm.__name__} under another name")
    _registered[name] = algorithm
    return algorithm


def is_code(name: str) -> bool:
    """Whether the name is of code that only the user may have loaded: FILE.py:Class or package.module:Class."""
    return ":" in name and not name.startswith(EVOTORCH)


def check(name: str) -> None:
    """Raise ConfigError unless there may be such an algorithm; no code is loaded."""
    where, _, kind = name.rpartition(":")
    if name in OWN or (where and kind.isidentifier()):
        return
    if name not in names():
        raise SettingError(
            "algorithm",
            f" = {name!r}: expected one of {', '.join(names())}, or code, FILE.py:Class or package.module:Class, or "
            f"evotorch:Class{did_you_mean(name, names()) if name else ''}",
            "SearchConfig",
        )


def load(name: str) -> type[Algorithm]:
    """The algorithm's class; this runs the code that defines it. Raises ConfigError: there is none, or the code fails."""
    check(name)
    if name in _registered:
        return _registered[name]
    if name.startswith(EVOTORCH):
        address = "decouple.search.evotorch_search:EvoTorchSearch"
    else:
        address = OWN.get(name) or next((point.value for point in _installed() if point.name == name), name)
    found = own_code.load(address, "search.algorithm")
    _expect_algorithm(found, name)
    return found


def digest_of(name: str) -> str | None:
    """16 hexadecimal digits of the file that defines the algorithm; None for decouple's own and EvoTorch's.

    A FILE.py is read, not run. Raises ConfigError: the algorithm cannot be loaded, or was not defined in a file that can be
    read."""
    if name in OWN or name.startswith(EVOTORCH):
        return None
    return own_code.digest_of(name, "search.algorithm", partial(load, name))


class Description(NamedTuple):
    """What a report says of an algorithm; fields as in `Algorithm`."""

    label: str
    note: str = ""
    backpropagates: bool = False


def about(name: str) -> Description:
    """Of the algorithm with this name; code is not loaded for it."""
    where, _, kind = name.rpartition(":")
    if is_code(name):
        return Description(f"{kind} of {Path(where).name}")
    if name.startswith(EVOTORCH):
        return Description(f"EvoTorch’s {kind}, for each image by itself")
    if name not in names():  # registered where the run was made
        return Description(name)
    found = load(name)
    return Description(found.label or found.__name__, found.note, found.backpropagates)


@cache
def _installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))


def _expect_algorithm(found: Any, name: str) -> None:
    bases = [f"{base.__module__}.{base.__qualname__}" for base in getattr(found, "__mro__", ())]
    if "decouple.search.algorithm.Algorithm" not in bases:  # which is not imported here: it would bring torch along
        raise ConfigError(f"search.algorithm = {name} is not a subclass of decouple.search.Algorithm; derive it from that")
