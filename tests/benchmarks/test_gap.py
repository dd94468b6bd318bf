"""The gap between learning and SGD, on digits and in seconds."""

import json
from pathlib import Path

from benchmarks import gap


def test_a_stopped_measurement_continues_to_the_same_figures(tmp_path: Path) -> None:
    arguments = gap.Arguments(out=tmp_path / "runs", case="tiny", seeds=(0,), figures=tmp_path)
    chosen = gap.CASES["tiny"]
    gap.tuned(arguments, chosen, "SGD")
    gap.trained(arguments, chosen, "the last block supervised", {"learn.lr": 0.1}, 0)  # other settings than a trial's
    gap.main(arguments)
    once = json.loads((tmp_path / "gap-tiny.json").read_text())["figures"]
    again = gap.measure(arguments, chosen)
    for row in (*once["rows"].values(), *again["rows"].values()):
        row["seeds"][0].pop("search_seconds", None)
    assert again == once
    assert [len(row["trials"]) for row in once["rows"].values()] == [2] * 4
    searches = list((tmp_path / "runs").rglob("search/*/*"))
    assert len([path for path in searches if path.is_dir()]) == 1  # which all rows share
    mean, summed, last = (row["chosen"] for name, row in once["rows"].items() if name != "SGD")
    assert (mean["learn.norm"], summed["learn.norm"], last["learn.supervise"]) == ("mean", "sum", "last")
    assert once["rows"]["SGD"]["against_sgd"]["mean"] == 0
