"""The benchmark of trajectories, at its smallest: a receipt, a table and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import trajectories
from decouple.config import EsConfig, NetworkConfig


def test_it_leaves_receipt_table_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = replace(
        trajectories.SCALES["tiny"],
        images=20,
        batch=10,
        validation=30,
        records=2,
        network=NetworkConfig(width=8),
        es=EsConfig(population=4, generations=2),
        epochs=1,
        sgd=2,
        timed_images=20,
        timed_epochs=1,
        repeats=1,
        entropy=(60, 40),
    )
    monkeypatch.setitem(trajectories.SCALES, "tiny", size)
    monkeypatch.setattr(trajectories, "draw", lambda *_: None)  # tests/report draws these figures
    trajectories.main(trajectories.Arguments(scale="tiny", device="cpu", figures=tmp_path))
    receipt = json.loads((tmp_path / "trajectories-tiny.json").read_text())
    (entry,) = receipt["figures"]["data"]
    assert receipt["settings"]["seeds"] == [0]
    assert {d["other"] for d in entry["differences"]} == {"same solution, other starts", "sgd, other starts"}
    assert {(c["family"], c["pairs"]) for c in entry["correlations"]} == {
        ("other solutions, same start", 16),
        ("other solutions, other starts", 10),
    }
    assert receipt["figures"]["entropy"]["ratio"] > 0
    assert entry["recorder"]["ratio"] > 0
    assert "rank correlation" in (tmp_path / "trajectories-tiny.md").read_text()
    assert "digits" in capsys.readouterr().out
