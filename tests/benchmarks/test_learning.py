"""The benchmarks that learn from what they search, on digits and in seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablations, accuracy_scaling
from decouple.config import EsConfig, NetworkConfig


@pytest.mark.parametrize("module", [ablations, accuracy_scaling])
def test_a_benchmark_of_learning_leaves_receipt_and_table(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    es = EsConfig(population=12, generations=2)
    size = replace(module.SCALES["tiny"], network=NetworkConfig(width=8), es=es)
    arguments = {"scale": "tiny", "device": "cpu", "figures": tmp_path}
    if module is ablations:
        arguments["rows"] = ("SGD", "es, the last block", "es, one more round", "paper, noise smoothed, all supervised")
    monkeypatch.setitem(module.SCALES, "tiny", size)
    module.main(module.Arguments(**arguments))
    receipt = json.loads((tmp_path / f"{module.NAME}-tiny.json").read_text())
    assert {"commit", "versions", "threads"} <= set(receipt["made"])
    printed = capsys.readouterr().out
    assert "digits" in printed
    if module is ablations:
        rows = receipt["figures"]["data"][0]["rows"]
        assert list(rows) == list(arguments["rows"])
        assert rows["es, one more round"]["evaluations"] > rows["es, the last block"]["evaluations"]
