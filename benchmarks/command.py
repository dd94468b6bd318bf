"""How a benchmark is started from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tyro

from decouple.errors import DecoupleError

Arguments = TypeVar("Arguments")


def launch(main: Callable[[Arguments], object], arguments: type[Arguments], about: str | None) -> None:
    """Run `main` with what the command line says; what its user can mend ends it with one line.

    Args:
        about: the text of --help.
    """
    try:
        main(tyro.cli(arguments, description=about))
    except DecoupleError as error:
        raise SystemExit(f"{error}") from None
