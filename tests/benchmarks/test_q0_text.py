"""The text benchmark at its smallest: what it leaves, and what it goes on with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import q0_text
from decouple.errors import ConfigError


def test_it_leaves_receipt_and_picture_and_goes_on_with_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = q0_text.SCALES["tiny"]
    monkeypatch.setitem(q0_text.SCALES, "tiny", replace(size, precision="float32"))
    monkeypatch.setattr(q0_text, "CHANGES", {"q0 without distillation": {"alpha": 0.0}, "q0 without noise": {"perturb": 0}})
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(200)))
    arguments = q0_text.Arguments(data=text, scale="tiny", device="cpu", out=tmp_path / "parts", figures=tmp_path)
    q0_text.main(arguments)
    receipt = json.loads((tmp_path / "q0_text-tiny.json").read_text())
    assert receipt["settings"]["seeds"] == [0, 1]
    assert [p["epochs"] for p in receipt["figures"]["regime"]] == [2, 4]
    everything = receipt["figures"]["all"]["q0, cycles of 1 epochs, 2 trajectories"][0]
    assert [(p["epochs"], p["members"]) for p in everything] == [(2, 1), (3, 2), (4, 2), (6, 4)]
    assert [tuned["method"] for tuned in receipt["figures"]["tuning"]] == ["single", "single", "ensemble", "snapshots", "q0"]
    assert {"q0 itself", "q0 without noise"} <= set(receipt["figures"]["ablation"])
    assert (tmp_path / "q0_text-tiny.png").stat().st_size > 1000
    assert "times fewer (seeds:" in capsys.readouterr().out

    def fail(*given: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(q0_text, "measure", fail)
    q0_text.main(arguments)
    again = json.loads((tmp_path / "q0_text-tiny.json").read_text())
    assert again["figures"]["lines"] == receipt["figures"]["lines"]


def test_one_seed_without_ablations_has_no_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short: dict[str, Any] = {"seeds": (0,), "ablations": 0, "models": (2,), "singles": (2,), "grid": {}, "q0_grid": {}}
    size = replace(q0_text.SCALES["tiny"], precision="float32", **short)
    monkeypatch.setitem(q0_text.SCALES, "tiny", size)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(200)))
    q0_text.main(q0_text.Arguments(data=text, scale="tiny", device="cpu", figures=tmp_path))
    table = (tmp_path / "q0_text-tiny.md").read_text()
    assert "| best single network | 2 | 1 |" in table
    assert "one trajectory" not in table
    assert "±" not in table


def test_a_text_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="give a text"):
        q0_text.run(q0_text.Arguments(), q0_text.SCALES["tiny"])
