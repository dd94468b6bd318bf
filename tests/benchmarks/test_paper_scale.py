"""The paper's tables in sittings, on digits and in seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import paper_scale
from benchmarks.paper_plan import DEFAULT, ES, PAPER, SCALES, SUMMED, Piece, expected, plan
from benchmarks.paper_scale import Arguments, Clock, entries_of, left, work
from decouple.errors import ConfigError, DataError
from decouple.files import load_tensors, unit_of
from decouple.progress import Advance

ROOT = Path(__file__).parents[2]

KILLED = """
import functools, os, signal, sys
from pathlib import Path
from decouple.pipeline import learning
from tests.benchmarks import test_paper_scale as tests

learning.Checkpoint = functools.partial(learning.Checkpoint, seconds=0)
for stage, units in (("learn", 2), ("search", 60)):
    pid = os.fork()
    if not pid:
        tests.stopped_in(stage, units, lambda clock: os.kill(os.getpid(), signal.SIGKILL))
        tests.sit(Path(sys.argv[1]))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, stage
"""
"""Two sittings that are killed: after the second of four epochs, and after the second of four batches."""


def pieces() -> list[Piece]:
    """SGD, the paper's algorithm, whose batches are searched one by one, and ours; on all images, one seed."""
    chosen = [
        piece for piece in plan(("digits",), SCALES["tiny"]) if piece.folder == "digits-120" and piece.config.seed == 0
    ]
    return [
        piece for row in ("SGD", PAPER, DEFAULT, ES) for piece in chosen if piece.row == row and piece.training.epochs == 4
    ]


def sit(folder: Path, seconds: float = 600.0) -> Any:
    return work(Arguments(10, folder, scale="tiny", device="cpu"), pieces(), time.monotonic() + seconds)


def stopped_in(stage: str, units: int, stop: Any) -> None:
    """Call `stop` with the clock once so many units of a stage are done."""
    task = Clock.task

    @contextmanager
    def counted(clock: Clock, what: str, total: int, unit: str) -> Iterator[Advance]:
        with task(clock, what, total, unit) as advance:

            def count(done: int) -> None:
                if clock.what == stage and clock.share * total + done >= units:
                    stop(clock)
                advance(done)

            yield count

    Clock.task = counted  # type: ignore[method-assign]


def measured(folder: Path) -> list[dict[str, Any]]:
    """What the table shows, without times."""
    entries = json.loads(json.dumps(entries_of(Arguments(10, folder, scale="tiny"), pieces())))
    for row in (row for entry in entries for row in entry["rows"].values()):
        del row["cells"]
        for seed in row["seeds"].values():
            assert seed.pop("learn_seconds") > 0
            seed.pop("search_seconds", None)
    return entries


def test_stopped_three_times_it_gives_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sit(tmp_path / "once") is None
    resumed = tmp_path / "resumed"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }  # which round alike
    subprocess.run([sys.executable, "-c", KILLED, str(resumed)], check=True, cwd=ROOT, env=environment, capture_output=True)
    assert len(list((resumed / "rows").iterdir())) == 1, "SGD is there, and the search of the second is begun"
    assert len(list(resumed.rglob("batch-*"))) == 2

    def time_is_over(clock: Clock) -> None:
        clock.until = time.monotonic()

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "task", Clock.task)
        stopped_in("learn", 3, time_is_over)
        stopped = sit(resumed)
    assert stopped == (pieces()[1], "learn", 0.75)
    (checkpoint,) = resumed.rglob("checkpoint*")
    assert len(load_tensors(checkpoint, unit=unit_of(checkpoint))[1]["losses"]) == 3, "no epoch is lost"
    arguments = Arguments(0, resumed, scale="tiny")
    assert left(arguments, pieces(), stopped).startswith("Left: 3 of 4 pieces")
    assert sit(resumed) is None
    assert left(arguments, pieces()) == "Nothing is left."
    assert measured(resumed) == measured(tmp_path / "once")
    assert len(measured(resumed)[0]["rows"]) == 4


def test_an_alarm_and_a_signal_end_a_sitting(tmp_path: Path) -> None:
    began = time.monotonic()
    assert sit(tmp_path, seconds=0.0) is not None
    with pytest.raises(paper_scale.Interrupted), paper_scale.stopping(began + 600):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_data_that_nobody_has_asked_for_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise DataError("no files")

    monkeypatch.setattr(paper_scale, "opened", missing)
    found = pieces()
    with pytest.raises(DataError, match="none of the data sets is there: give their folder by data_root"):
        work(Arguments(10, tmp_path), found, time.monotonic() + 600)
    assert not found
    with pytest.raises(DataError, match="no files"):
        work(Arguments(10, tmp_path, data=("digits",)), pieces(), time.monotonic() + 600)


def test_the_call_writes_the_table_and_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper_scale.main(Arguments(0, tmp_path, data=("cifar10",)))
    assert "cifar10-all, augmented, 90 epochs: SGD, seed 0" in capsys.readouterr().out.splitlines()[1]
    tiny = Arguments(0, tmp_path, scale="tiny", device="cpu")
    work(tiny, pieces()[:1], time.monotonic() + 600)
    paper_scale.main(tiny)
    assert "| digits, 4 epochs | 120 | SGD |" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("paper_scale.*")} == {"paper_scale.json", "paper_scale.md"}


def test_the_settings_are_the_papers_and_the_order_is_that_of_value() -> None:
    found = plan(("cifar10", "mnist"), SCALES["paper"])
    assert [(piece.folder, piece.row) for piece in found[:4]] == [
        (folder, row) for folder in ("cifar10-all", "mnist-all") for row in ("SGD", DEFAULT)
    ]
    assert sum(sum(expected(piece).values()) for piece in found[:4]) < 9 * 60
    papers = [piece for piece in found if piece.row == PAPER]
    assert [piece.config.data.train for piece in papers[:3]] == [2000, 2000, None]
    whole = papers[2].config
    assert (whole.search.paper.population, whole.search.paper.generations["block0"], whole.network.width) == (240, 300, 256)
    assert (whole.learn.epochs, whole.learn.supervise, whole.learn.norm) == (90, "skip-first", "mean")
    assert next(piece for piece in found if piece.row == SUMMED).config.learn.norm == "sum"
    assert expected(papers[2])["search"] > 3000, "an hour"
    with pytest.raises(ConfigError, match="data digits2: expected one of the paper's data sets"):
        plan(("digits2",), SCALES["paper"])
