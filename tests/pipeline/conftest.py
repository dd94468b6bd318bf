"""A finished run of a few seconds, to copy, damage and resume."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from decouple.config import RunConfig
from decouple.pipeline import run
from decouple.settings import from_builtins

TINY = {
    "data": {"train": 60, "validation": 40, "prior": 40, "test": 60},
    "network": {"width": 8},
    "search": {"points": "all", "batch": 20, "es": {"population": 4, "generations": 2}},
    "learn": {"epochs": 4, "batch": 30, "supervise": "all"},
    "sgd": {"epochs": 3, "batch": 30, "groups": [1]},
    "compare": {"images": 20, "records": 3},
    "q0": {"cycles": 3, "epochs": 2, "batch": 30},
}


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    return from_builtins(TINY)


@pytest.fixture(scope="session")
def _finished(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(tiny, folder)
    return folder


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, at another place."""
    return Path(shutil.copytree(_finished, tmp_path / "run"))


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out: results.json is written before them."""

    def report(folder: Path) -> Path:
        return folder / "report.html"

    monkeypatch.setattr("decouple.report.build_report", report)


Stamps = Callable[[Path], dict[str, int]]


@pytest.fixture
def stamps() -> Stamps:
    """When each unit of a run was written."""
    return lambda folder: {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for stage in ("search", "learn", "compare", "q0")
        for path in sorted((folder / stage).rglob("*"))
        if path.is_file()
    }
