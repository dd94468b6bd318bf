"""The version of decouple, which its distribution and citation have too, and the versions of what it computes with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """Versions of Python and of what decides results."""
    found = {
        "decouple": "decouple-learn",
        **{name: name for name in ("torch", "torchvision", "evotorch", "numpy", "scikit-learn")},
    }
    known = {"python": platform.python_version()}
    for name, distribution in found.items():
        try:
            known[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            known[name] = __version__ if name == "decouple" else "not installed"
    return known


def commit() -> str | None:
    """The commit of the checkout that decouple is imported from, marked when it has local changes; None elsewhere."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        described = subprocess.run(describe, capture_output=True, text=True, timeout=10, check=True)
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() if tracked.returncode == 0 else None
