"""The benchmarks that learn from what they search, on digits and in seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablations, accuracy_scaling, tables
from benchmarks.common import STORED
from decouple.config import EsConfig, LearnConfig, NetworkConfig, RoundsConfig
from decouple.errors import ConfigError
from decouple.presets import preset


def test_both_sides_are_tuned_with_as_many_trials() -> None:
    size = tables.SCALES["small"]
    for kind in ("sgd", "searched", "live"):
        assert len(tables.trials(size, kind)) == len(set(tables.trials(size, kind))) == 12


def test_a_summary_compares_the_same_images() -> None:
    ours, theirs = (
        [{"validation": 0.9, "test": t, "steps": 3, "evaluations": 5} for t in tests] for tests in ((0.9, 0.8), (0.8, 0.8))
    )
    row = tables.summary(ours, theirs)
    assert row["against_sgd"]["mean"] == pytest.approx(5)
    assert row["test"]["mean"] == pytest.approx(85)


@pytest.mark.parametrize(
    "size", [tables.SCALES["small"], tables.SCALES["paper"], replace(tables.SCALES["small"], **tables.AUGMENTED)]
)
def test_sgd_and_learning_have_as_many_trials(size: tables.TableSize) -> None:
    counts = {len(tables.trials(size, kind, tables.Trial(1, 0.02, 0.2))) for kind in tables.KINDS}
    assert len(counts) == 1
    assert counts.pop() > 3


def test_a_data_set_without_sizes_is_refused() -> None:
    with pytest.raises(ConfigError, match="no numbers of images for mnist: expected digits"):
        tables.run(tables.Arguments(scale="tiny", data=("mnist",)), tables.SCALES["tiny"])


@pytest.mark.parametrize("module", [tables, ablations, accuracy_scaling])
def test_a_benchmark_of_learning_leaves_receipt_and_table(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    es = EsConfig(population=12, generations=2)
    size = replace(module.SCALES["tiny"], network=NetworkConfig(width=8), es=es)
    arguments = {"scale": "tiny", "device": "cpu", "figures": tmp_path}
    if module is tables:
        few = {"weight_decay": (0.02,), "learn": ((0.2, 0.3),), "again_weight_decay": (0.005,), "again_lr": (0.1, 0.05)}
        size = replace(size, train={"digits": (60,)}, rounds=RoundsConfig(count=1, es=es), **few)
    if module is ablations:
        arguments["rows"] = ("SGD", "es, the last block", "es, one more round", "paper, noise smoothed, all supervised")
    monkeypatch.setitem(module.SCALES, "tiny", size)
    module.main(module.Arguments(**arguments))
    receipt = json.loads((tmp_path / f"{module.NAME}-tiny.json").read_text())
    assert {"commit", "versions", "threads"} <= set(receipt["made"])
    printed = capsys.readouterr().out
    assert "digits" in printed
    if module is tables:
        rows = receipt["figures"]["entries"][0]["rows"]
        assert list(rows) == list(tables.ROWS)
        entry = receipt["figures"]["entries"][0]
        best = max(entry["tuning"]["rounds"], key=lambda tried: tried["validation"])
        assert entry["chosen"]["rounds"].items() <= best.items()
        longer = [f"{what}, steps of the rounds" for what in ("SGD", "searched, es")]
        assert {rows[row]["steps"] for row in (*longer, "searched, es, rounds")} == {2 * rows["SGD"]["steps"]}
        assert rows["searched, es, steps of the rounds"]["evaluations"] == rows["searched, es"]["evaluations"]
        assert rows["searched, es, rounds"]["evaluations"] > rows["searched, es"]["evaluations"]
        assert f"{rows['searched, es']['test']['mean']:.1f} ±" in (tmp_path / "tables-tiny.md").read_text()
    if module is ablations:
        rows = receipt["figures"]["data"][0]["rows"]
        assert list(rows) == list(arguments["rows"])
        assert rows["es, one more round"]["evaluations"] > rows["es, the last block"]["evaluations"]


@pytest.mark.parametrize(
    ("name", "train", "groups"), [("mnist", 58_000, 2), ("cifar10", 48_000, 3), ("cifar100", 48_000, 3)]
)
def test_the_scale_paper_is_the_papers(name: str, train: int, groups: int) -> None:
    """Among its trials are the preset's own settings, and the paper's row searches as the preset does."""
    size, papers, row = tables.SCALES["paper"], preset(name), "searched, paper's algorithm"
    size = replace(size, augment=papers.learn.augment)
    setting = tables.Setting(name, train, 0, size, None, "cpu")
    assert train in size.train[name]
    assert setting.search(row) == papers.search
    assert setting.search("searched, es").algorithm == "es"
    assert setting.base.network.width == 256
    options = tables.trials(size, "searched")
    assert papers.learn in [setting.learning(trial, row) for trial in options if trial.groups == groups]
    assert setting.learning(options[0], "searched, es").supervise == "last"
    assert len(tables.trials(size, "sgd")) == len(options), "SGD is tuned as hard"


def test_small_settings_are_small() -> None:
    setting = tables.Setting("mnist", 1000, 0, tables.SCALES["small"], None, "cpu")
    learning = setting.learning(tables.Trial(2, 0.05, 0.2, 0.3), "searched, es")
    assert learning == LearnConfig(epochs=50, weight_decay=0.05, lr=0.2, **STORED)
    paper = setting.search("searched, paper's algorithm").paper
    assert (paper.population, paper.generations, paper.alpha) == (48, {"block0": 17, "blocks": 8, "logits": 7}, 0.1)
