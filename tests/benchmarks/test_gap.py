"""The gap between learning and SGD, on digits and in seconds."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gap, gap_cases
from decouple.config import DataConfig, EsConfig, NetworkConfig
from decouple.errors import ConfigError


def test_a_stopped_measurement_continues_to_the_same_figures(tmp_path: Path) -> None:
    arguments = gap.Arguments(out=tmp_path / "runs", case="tiny", seeds=(0,), figures=tmp_path)
    chosen = gap.CASES["tiny"]
    gap.tuned(arguments, chosen, "SGD")
    gap.measured(arguments, chosen, "the last block supervised", {"learn.lr": 0.1}, 0)  # other settings than a trial's
    gap.main(arguments)
    once = json.loads((tmp_path / "gap-tiny.json").read_text())["figures"]
    again = gap.measure(arguments, chosen)
    for row in (*once["rows"].values(), *again["rows"].values()):
        for name in ("search_seconds", "learn_seconds"):
            row["seeds"][0].pop(name, None)
    assert again == once
    assert [len(row["trials"]) for row in once["rows"].values()] == [2] * 4
    searches = list((tmp_path / "runs").rglob("search/*/*"))
    assert len([path for path in searches if path.is_dir()]) == 1  # which all rows share
    mean, summed, last = (row["chosen"] for name, row in once["rows"].items() if name != "SGD")
    assert (mean["learn.norm"], summed["learn.norm"], last["learn.supervise"]) == ("mean", "sum", "last")
    assert once["rows"]["SGD"]["against_sgd"]["mean"] == 0


def test_rounds_take_the_steps_of_the_row_beside_them(tmp_path: Path) -> None:
    es = gap.replace(gap_cases.ES, batch=30, es=EsConfig(population=12, generations=2))
    small = gap_cases.few("mnist", 60, 2)
    config = gap.replace(
        small.config, search=es, data=DataConfig(train=60, validation=60), network=NetworkConfig(width=8, groups=1)
    )
    names = ("searched, es", *(row for row in small.further if "heads" not in row))
    arguments = gap.Arguments(out=tmp_path, case="tiny", rows=names, seeds=(0,), device="cpu")
    rows = gap.measure(arguments, gap.replace(small, config=config, tuned_on=60, trials=2))["rows"]
    steps = {name: row["steps"] for name, row in rows.items()}
    assert list(rows) == ["SGD", *names]
    assert {steps[name] for name in names[1:]} == {2 * steps["SGD"]} == {2 * steps["searched, es"]}
    evaluations = {name: row["evaluations"] for name, row in rows.items()}
    assert (
        evaluations["searched, es, steps of the rounds"] == evaluations["searched, es"] < evaluations["searched, es, rounds"]
    )
    assert rows["searched, es"]["against_sgd"]["mean"] == pytest.approx(
        rows["searched, es"]["test"]["mean"] - rows["SGD"]["test"]["mean"]
    )


def test_a_term_is_tuned_with_its_twin_beside_it(tmp_path: Path) -> None:
    small = gap_cases.few("digits", 60, 2)
    config = gap.replace(
        small.config,
        search=gap.replace(gap_cases.ES, batch=30, es=EsConfig(population=12, generations=2)),
        data=DataConfig(train=60, validation=60),
        network=NetworkConfig(width=8, groups=1),
    )
    both = ("searched, es, live, similarity", "searched, es, live, similarity, heads")
    names = tuple(name for row in both for name in (gap.twin(row), row))
    arguments = gap.Arguments(out=tmp_path, case="tiny", rows=names, seeds=(0, 1), device="cpu")
    figures = gap.measure(arguments, gap.replace(small, config=config, tuned_on=60, trials=3))
    for name, method in zip(names, ("sgd", "learn") * 2, strict=True):
        setting = f"{method}.similarity"
        row = figures["rows"][name]
        assert [len(trial) for trial in row["trials"]] == [4] * 3, "three settings are tuned by as many trials"
        assert {trial[setting] for trial in row["trials"]} <= {3.0, 10.0, 30.0}
        assert row["chosen"][setting] in (3.0, 10.0, 30.0)
        assert row["chosen"].get(f"{method}.heads") == (gap_cases.HEADS if "heads" in name else None)
    figures["rows"]["SGD"]["chosen"] |= {"sgd.lr": 0.3}
    (tmp_path / "gap-other.json").write_text(json.dumps({"figures": figures}))
    elsewhere = gap.replace(arguments, settings_of="other", figures=tmp_path, rows=())
    rows = gap.measure(elsewhere, gap.replace(small, config=config, rows={"SGD": {}}))["rows"]
    assert rows["SGD"]["chosen"]["sgd.lr"] == 0.3, "what was tuned there"
    assert rows["SGD"]["trials"] == [], "and nothing here"
    with pytest.raises(ConfigError, match="has no row 'SGD'; measure that case first"):
        gap.choice(gap.replace(elsewhere, settings_of="no such case"), small, "SGD")
    twin, ours = (figures["rows"][name] for name in names[:2])
    gains = [100 * (a["test"] - b["test"]) for a, b in zip(ours["seeds"], twin["seeds"], strict=True)]
    found = figures["against_twin"][names[1]]
    assert found["mean"] == pytest.approx(sum(gains) / 2)
    assert found["high"] - found["low"] == pytest.approx(12.706 * abs(gains[0] - gains[1]), rel=1e-3), "Student's, of two"
    assert names[1] in gap.as_markdown(figures).splitlines()[-3]
    assert f"{names[3]}, against {names[2]}" in gap.as_markdown(figures).splitlines()[-1]


def test_three_seeds_decide_among_finalists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = gap.Arguments(out=tmp_path, case="tiny", seeds=(0, 1, 2, 3), finalists=2)
    trials = [gap.Trial("sgd", {"sgd.lr": lr}, 0, accuracy) for lr, accuracy in ((0.1, 0.9), (0.2, 0.89), (0.4, 0.8))]
    tuning = gap.Tuning(gap.CASES["tiny"].config, {"sgd": {"sgd.lr": [0.1, 0.2, 0.4]}}, trials, 60)
    asked = []

    def measured(
        arguments: gap.Arguments, chosen: gap.Case, row: str, values: dict[str, float], seed: int
    ) -> dict[str, float]:
        asked.append((values["sgd.lr"], seed))
        return {"validation": {0.1: 0.85, 0.2: 0.88, 0.4: 1.0}[values["sgd.lr"]]}

    monkeypatch.setattr(gap, "measured", measured)
    assert gap.screened(arguments, gap.CASES["tiny"], "SGD", tuning).values == {"sgd.lr": 0.2}
    assert sorted(asked) == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]


def test_rows_share_a_folder_with_data_at_a_path(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    images, labels = stream.integers(0, 256, (80, 8, 8, 1), dtype=np.uint8), np.arange(80) % 10
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    small = gap_cases.few("npz:data.npz", 40, 1)
    config = gap.replace(
        small.config,
        data=DataConfig(name="npz:data.npz", train=40, validation=30, prior=10),
        network=NetworkConfig(width=4, groups=1),
        search=gap.replace(gap_cases.ES, batch=20, es=EsConfig(population=4, generations=2)),
    )
    arguments = gap.Arguments(out=tmp_path / "runs", seeds=(0,), device="cpu", data_root=tmp_path)
    for row in ("SGD", gap.twin("searched, es, live, similarity"), "SGD"):
        assert len(gap.tuned(arguments, gap.replace(small, config=config, tuned_on=40, trials=2), row).trials) == 2


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="case mnist-2k: expected one of tiny, mnist"):
        gap.main(gap.Arguments(out=Path("never"), case="mnist-2k"))
