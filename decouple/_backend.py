"""Imports matplotlib whatever MPLBACKEND says: a notebook leaves its own there, which matplotlib refuses where the notebook's
packages are missing. Figures here have canvases of their own and need no backend."""

from __future__ import annotations

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    if wanted:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = wanted  # as matplotlib does: the user's pyplot is not ours to change
