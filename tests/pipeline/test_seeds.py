"""One run for each of several seeds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from decouple.config import RunConfig
from decouple.errors import ConfigError, RunDirectoryError
from decouple.pipeline.seeds import run_seeds

RESULTS = "results.json"


@pytest.mark.usefixtures("no_report")
def test_each_seed_is_the_run_of_that_seed_and_is_not_run_twice(
    tiny: RunConfig, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run_seeds(tiny, [3, tiny.seed], tmp_path / "seeds")
    assert (tmp_path / "seeds" / f"seed-{tiny.seed}" / RESULTS).read_bytes() == (finished / RESULTS).read_bytes()
    assert sorted(table.rows[0].outcomes) == sorted([3, tiny.seed])
    before = (tmp_path / "seeds" / "seed-3" / "learn").stat().st_mtime_ns
    again = run_seeds(tiny, [3, tiny.seed], tmp_path / "seeds", resume=True)
    assert again.json() == table.json()
    assert (tmp_path / "seeds" / "seed-3" / "learn").stat().st_mtime_ns == before
    assert (tmp_path / "seeds" / "table.json").read_text() == table.json()
    alone = run_seeds(tiny, [3], tmp_path / "seeds", resume=True)
    assert alone.json() == table.json(), "of all seeds that are there"
    made = json.loads((path := tmp_path / "seeds" / f"seed-{tiny.seed}" / "run.json").read_text())
    path.write_text(json.dumps({**made, "data": {**made["data"], "digest": "other"}}))
    alone = run_seeds(tiny, [3], tmp_path / "seeds", resume=True, quiet=False)
    assert list(alone.rows[0].outcomes) == [3]
    assert f"seed-{tiny.seed} is left out of the table: it and" in capsys.readouterr().err


def test_every_folder_is_checked_before_the_first_run(
    tiny: RunConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("decouple.search.shards.search_batches", lambda *a, **k: pytest.fail("compute was spent"))
    with pytest.raises(RunDirectoryError, match="is a run, and not a folder for several"):
        run_seeds(tiny, [1], finished)
    finished.rename(tmp_path / "seed-2")
    with pytest.raises(RunDirectoryError, match="seed-2 is not empty: continue it with resume"):
        run_seeds(tiny, [1, 2], tmp_path)
    with pytest.raises(RunDirectoryError, match=r"seed-2 holds a run with different settings \(seed: 0 → 2\)"):
        run_seeds(tiny, [1, 2], tmp_path, resume=True)


def test_seeds_that_make_no_runs_are_named(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seeds in ([], [1, 1]):
        with pytest.raises(ConfigError, match=r"seeds = .*: expected at least one, and each once"):
            run_seeds(tiny, seeds, tmp_path)
    with pytest.raises(ConfigError, match="a seed must be a whole number from 0 on, not -1"):
        run_seeds(tiny, [-1], tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun shares one run among its processes"):
        run_seeds(replace(tiny, seed=0), [1], tmp_path)
