"""What is run first on a GPU, here on the CPU: it measures, and goes on where it was."""

from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_check import Arguments, Size
from benchmarks.gpu_correctness import CheckError, Setting
from decouple.files import read_json

CPU = torch.device("cpu")


def test_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def fine(setting: Setting) -> dict[str, object]:
        calls.append("fine")
        return {"value": 1.0}

    def broken(setting: Setting) -> dict[str, object]:
        calls.append("broken")
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(gpu_check, "CHECKS", {"first": fine, "second": broken})
    monkeypatch.setattr(gpu_check, "measured", lambda scale: {"third": fine})
    with pytest.raises(CheckError, match="not as on the CPU: second"):
        gpu_check.main(Arguments(tmp_path, device="cpu", scale="tiny"))
    assert calls == ["fine", "broken", "fine"]
    figures = read_json(tmp_path / "gpu-check.json")["figures"]
    assert figures["second"]["failed"] == "RuntimeError: no kernel image is available"
    assert figures["first"]["value"] == 1.0
    with pytest.raises(CheckError, match="not as on the CPU: second"):
        gpu_check.main(Arguments(tmp_path, device="cpu", scale="tiny"))
    assert calls[3:] == ["broken"], "what failed is tried again, the rest is there"
    capsys.readouterr()
    gpu_check.main(Arguments(tmp_path / "other", device="cpu", scale="tiny", minutes=-1))
    assert "left for another call with --out" in capsys.readouterr().out
    assert read_json(tmp_path / "other" / "gpu-check.json")["figures"] == {}


def test_speed_is_measured_with_its_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(4, 4, 1, 4, 1)
    monkeypatch.setattr(gpu_check, "_data_sheet", lambda device: gpu_check.GPUS["l4"])
    monkeypatch.setattr(gpu_check, "PRECISIONS", ("float32",))
    rows = gpu_check.measure_steps(size, Setting(CPU))["rows"]
    assert [row["step"] for row in rows] == ["sgd", "targets", "live"]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(4 * row["steps_per_second"])
        assert 0 < row["share_of_peak"] < 0.1
    found = gpu_check.measure_search(size, Setting(CPU))["rows"]
    assert [(row["points"], row["width"]) for row in found] == [("last", 4), ("all", 4)]
    assert [name.split(",")[0] for name in gpu_check.measured("full")][-1] == "side by side"
