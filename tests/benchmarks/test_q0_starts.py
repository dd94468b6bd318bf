"""Populations from searched and from new networks, at their smallest."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks import q0_images, q0_starts
from decouple.config import EsConfig, TrainConfig


def test_every_row_spends_the_same_epochs_and_starts_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = replace(q0_images.SCALES["tiny"]["digits"], train=60, budget=8, precision="float32", seeds=(0,))
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": size})
    monkeypatch.setattr(q0_starts, "ES", dict.fromkeys(("last", "all"), EsConfig(population=4, generations=2)))
    q0_starts.main(q0_starts.Arguments(scale="tiny", device="cpu", figures=tmp_path))
    entry = json.loads((tmp_path / "q0_starts-tiny.json").read_text())["figures"]["data"]["digits"]
    rows = entry["rows"]
    assert list(rows) == list(q0_starts.ROWS)
    assert {row["epochs"] for row in rows.values()} == {8}
    assert rows["searched, half the learning"]["members"] == rows["new networks"]["members"] + 2
    assert rows["new networks"]["difference"]["mean"] == rows["new networks"]["evaluations"] == 0
    assert rows["searched, all blocks"]["evaluations"] > rows["searched, last block"]["evaluations"] > 0
    assert rows["searched, last block"]["curve"][-1]["test"] == rows["searched, last block"]["test_learned"]
    assert (tmp_path / "q0_starts-tiny.png").stat().st_size > 1000
    assert "| searched, all blocks | 8 |" in capsys.readouterr().out


def test_what_cannot_spend_as_many_epochs_is_left_out() -> None:
    small, rows = q0_images.SCALES["small"], tuple(q0_starts.ROWS)
    assert q0_starts.comparable(small["mnist"], rows) == list(rows)
    assert q0_starts.comparable(small["cifar10"], rows) == [row for row in rows if "half" not in row]


def test_the_controls_differ_from_what_they_control_in_what_is_learned_alone() -> None:
    base = q0_images.SCALES["small"]["mnist"].base
    control = q0_starts.ROWS["new networks, SGD on the learning's schedule"].training(base)
    rows = ("searched, learned with live search", "learned with live search alone")
    learned, alone = (q0_starts.ROWS[row].learning(base, "last") for row in rows)
    assert replace(learned, target_weight=0.0) == alone
    for field in fields(TrainConfig):
        assert getattr(control, field.name) == getattr(learned, field.name), field.name
