"""Runs side by side."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from decouple.config import RunConfig
from decouple.errors import DataError, RunDirectoryError
from decouple.report.table import PRIOR, SEARCHED, SGD, make_table, read_table
from decouple.results import Accuracies, Results
from decouple.settings import from_builtins
from tests.report.made_up import RUN, made_up, write_run

RESULTS, CURVES = made_up()
ACCURACIES = {0: (0.90, 0.92), 1: (0.91, 0.95), 2: (0.88, 0.91)}


def _results(sgd: float, searched: float) -> Results:
    """With these accuracies; two solutions around the mean."""
    accuracies = Accuracies(sgd=sgd, search=[searched - 0.01, searched + 0.01])
    return msgspec.structs.replace(RESULTS, test_accuracy=accuracies)


def _config(seed: int, **learn: Any) -> RunConfig:
    base = RunConfig(seed=seed)
    return replace(base, learn=replace(base.learn, **learn))


def _runs(**learn: Any) -> list[tuple[str, RunConfig, Results]]:
    return [(f"run {seed}", _config(seed, **learn), _results(*pair)) for seed, pair in ACCURACIES.items()]


def test_means_deviations_and_paired_differences_are_those_of_the_seeds() -> None:
    table = make_table(_runs())
    rows = {row.method: row for row in table.rows}
    sgd, searched = (np.array(values) for values in zip(*ACCURACIES.values(), strict=True))
    assert rows[SGD].mean("accuracy") == pytest.approx(sgd.mean())
    assert rows[SEARCHED].std("accuracy") == pytest.approx(searched.std(ddof=1))
    assert rows[SGD].difference("accuracy") is None
    difference = rows[SEARCHED].difference("accuracy")
    assert difference is not None
    expected = stats.ttest_rel(searched, sgd).confidence_interval(0.95)
    assert (difference.value, difference.low, difference.high) == pytest.approx((searched.mean() - sgd.mean(), *expected))
    assert rows[PRIOR].mean("nll") == pytest.approx(RESULTS.q0.test_nll.learned_prior)
    assert rows[SEARCHED].outcomes[0].candidates == pytest.approx(
        RESULTS.networks["search-0"].search_evaluations / RESULTS.images["train"]
    )


def test_what_a_method_has_cost_counts_all_rounds_and_depths() -> None:
    config = from_builtins({"rounds": {"count": 1}, "sgd": {"groups": [1, 2], "epochs": 3}, "learn": {"epochs": 5}})
    network = RESULTS.networks["search-0"]
    first, last = (msgspec.structs.replace(network, search_evaluations=count) for count in (1000, 300))
    sgd = RESULTS.networks["sgd-1"]
    networks = {
        "search-0-before-1": msgspec.structs.replace(first, kind="earlier", test_accuracy=None),
        "search-0": last,
        "sgd-1": msgspec.structs.replace(sgd, test_accuracy=None),
        "sgd-2": msgspec.structs.replace(sgd, test_accuracy=0.9),
    }
    (row,) = [
        {row.method: row.outcomes[0] for row in make_table([("run", config, results)]).rows}
        for results in [msgspec.structs.replace(RESULTS, networks=networks)]
    ]
    assert row[SEARCHED].candidates == pytest.approx(1300 / RESULTS.images["train"])
    assert row[SEARCHED].epochs == 10
    assert row[SGD].epochs == 6, "of which validation chooses one depth"


def test_one_run_has_no_deviation_and_no_interval() -> None:
    table = make_table(_runs()[:1])
    assert all(row.std("accuracy") is row.difference("accuracy") is None for row in table.rows)
    assert "±" not in str(table)
    assert json.loads(table.json())["rows"][1]["accuracy_difference_low"] is None


def test_runs_are_grouped_by_the_settings_in_which_they_differ() -> None:
    table = make_table([*_runs(), *_runs(lr=0.5)])
    assert [dict(row.settings) for row in table.rows if row.method == SGD] == [{"learn.lr": 0.2}, {"learn.lr": 0.5}]
    assert {tuple(row.outcomes) for row in table.rows} == {(0, 1, 2)}
    unbalanced = make_table([*_runs(), *_runs(lr=0.5)[:2]])
    assert [len(row.outcomes) for row in unbalanced.rows if row.method == SGD] == [3, 2]


def test_many_settings_are_listed_below_what_is_printed() -> None:
    few = make_table([*_runs(), *_runs(lr=0.5)])
    assert str(few).splitlines()[0].startswith("learn.lr  method")
    rows = [replace(row, settings={**row.settings, "a": [1, 2], "b": 3, "c": "d"}) for row in few.rows]
    lines = str(replace(few, rows=rows)).splitlines()
    count = len(rows)
    assert lines[0].split()[:2] == ["runs", "method"]
    assert [line.split()[0] for line in lines[1 : 1 + count]] == ["1"] * (count // 2) + ["2"] * (count // 2)
    assert lines[1 + count :] == [
        "",
        *(f"runs {n}: learn.lr = {lr}, a = [1, 2], b = 3, c = d" for n, lr in ((1, 0.2), (2, 0.5))),
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert str(replace(make_table(_runs()), rows=[])).split()[:2] == ["method", "n"]


def test_runs_that_make_no_table_are_named() -> None:
    with pytest.raises(DataError, match="run 1 and run 1 have the same settings and seed 1: give each run once"):
        make_table([*_runs(), _runs()[1]])
    with pytest.raises(DataError, match="runs of one kind, on images or on text, not none"):
        make_table([])


def test_every_form_holds_the_same_figures() -> None:
    table = make_table([*_runs(), *_runs(lr=0.5)])
    records = table.records()
    from_csv = list(csv.DictReader(io.StringIO(table.csv())))
    from_json = json.loads(table.json())["rows"]
    for record, row, entry in zip(records, from_csv, from_json, strict=True):
        assert float(row["accuracy"]) == entry["accuracy"] == record["accuracy"]
        assert row["method"] == entry["method"]
        assert len(entry["by_seed"]) == 3
    head, rows = table.cells()
    markdown = table.markdown().splitlines()
    assert len(markdown) == len(rows) + 2
    assert markdown[0].count("|") == markdown[2].count("|") == len(head) + 1
    latex = table.latex()
    assert latex.count("\\\\\n") == len(rows) + 1
    assert r"89.67 $\pm$ 1.53" in latex
    assert r"test accuracy (\%)" in latex
    assert "89.67 ± 1.53" in str(table)
    assert table._repr_html_().count("<tr>") == len(rows) + 1
    pandas = pytest.importorskip("pandas")
    assert isinstance(table.frame(), pandas.DataFrame)
    assert table.frame()["accuracy"].tolist() == [record["accuracy"] for record in records]


def test_folders_of_runs_become_files_and_a_picture(tmp_path: Path) -> None:
    for name, config, results in _runs():
        write_run(tmp_path / "runs" / name.replace(" ", "-"), results, CURVES, config)
    table = read_table([tmp_path / "runs"])
    assert len(table.rows[0].outcomes) == 3
    table.write(tmp_path / "table")
    assert sorted(file.suffix for file in (tmp_path / "table").iterdir()) == sorted(
        [".csv", ".json", ".md", ".tex", ".txt", ".png", ".svg"]
    )
    again = read_table([tmp_path / "runs" / f"run-{seed}" for seed in (2, 0, 1)])
    assert again.json() == table.json(), "the order in which runs are given does not matter"
    assert read_table(str(tmp_path)).json() == table.json(), "folders of folders of runs"
    with pytest.raises(RunDirectoryError, match="is neither a run directory nor a folder of some"):
        read_table([tmp_path / "table"])
    run = tmp_path / "runs" / "run-0"
    (run / "results.json").unlink()
    with pytest.raises(
        RunDirectoryError, match=r"run-0 is not finished, since it has no results.json; 'decouple report .*run-0'"
    ):
        read_table(run)
    (run / "tune").mkdir()
    with pytest.raises(
        RunDirectoryError, match=r"run-0 is a tuning, not a run; 'decouple run PRESET --config .*best.json' makes"
    ):
        read_table(run)
    (run / "run.json").write_text('{"format": 1, "versions": {"decouple": "0.1.0"}}')
    with pytest.raises(RunDirectoryError, match=r"has run-directory format 1, written by decouple 0.1.0"):
        read_table(run)


def test_runs_of_other_data_or_code_are_not_averaged(tmp_path: Path) -> None:
    def write(seed: int, data: str, code: str, name: str = "runs", **learn: Any) -> None:
        made = {**RUN, "data": {"digest": data}, "code": {"network.name": {"name": "/net.py:build", "digest": code}}}
        write_run(tmp_path / name / f"seed-{seed}", RESULTS, CURVES, _config(seed, **learn), made)

    write(0, "a1", "c1")
    write(1, "b2", "c1")
    with pytest.raises(
        DataError,
        match=r"seed-0 and .*seed-1 have the same settings, but different data \(digests a1 and b2\): give them to separate",
    ):
        read_table(tmp_path / "runs")
    write(1, "a1", "c2")
    with pytest.raises(DataError, match=r"but different versions of /net.py:build \(digests c1 and c2\)"):
        read_table(tmp_path / "runs")
    write(1, "a1", "c1")
    write(1, "b2", "c1", name="other", lr=0.5)
    assert len(read_table([tmp_path / "runs", tmp_path / "other"]).rows[0].outcomes) == 2, "of other settings"


def test_a_method_without_a_figure_leaves_its_cell_empty() -> None:
    networks = {
        name: msgspec.structs.replace(network, test_nll=None) if network.kind == "search" else network
        for name, network in RESULTS.networks.items()
    }
    results = msgspec.structs.replace(RESULTS, networks=networks)
    row = next(row for row in make_table([("a", RunConfig(), results)]).rows if row.method == SEARCHED)
    assert row.mean("nll") is None
    assert not math.isnan(row.mean("accuracy") or math.nan)
