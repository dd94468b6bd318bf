"""How much more data a single network needs, at its smallest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import data_efficiency, q0_images, q0_text
from benchmarks.data_efficiency import Arguments
from decouple.errors import ConfigError


def test_it_reads_what_the_others_left_and_keeps_the_data_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"weight_decay": (0.06,)}
    size = replace(q0_images.SCALES["tiny"]["digits"], train=60, precision="float32", grid=grid, q0_grid={}, seeds=(0,))
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": size})
    text = replace(q0_text.SCALES["tiny"], precision="float32", grid={"weight_decay": (1.0,)}, q0_grid={}, seeds=(0,))
    monkeypatch.setitem(q0_text.SCALES, "tiny", text)
    monkeypatch.setattr(q0_text, "CHANGES", {})
    monkeypatch.setattr(q0_images, "CHANGES", {})
    file = tmp_path / "ticks.txt"
    file.write_text("\n\n".join(f"number {i}: {'tick tock ' * (i % 4 + 1)}" for i in range(600)))
    q0_images.main(q0_images.Arguments(scale="tiny", device="cpu", figures=tmp_path))
    q0_text.main(q0_text.Arguments(data=file, scale="tiny", device="cpu", figures=tmp_path))
    data_efficiency.main(Arguments(scale="tiny", device="cpu", figures=tmp_path, text=file, times=(2, 4), lengths=(2, 4)))
    found = json.loads((tmp_path / "data_efficiency-tiny.json").read_text())["figures"]["data"]
    assert list(found) == ["digits", "ticks"]
    before = json.loads((tmp_path / "q0_images-digits-tiny.json").read_text())["figures"]["data"]["digits"]
    assert found["digits"]["q0"] == before["lines"]["q0, learned prior"][-1]
    assert [point["times"] for point in found["digits"]["curve"]] == [1, 2, 4]
    nll = [point["test"]["mean"] for point in found["digits"]["curve"]]
    assert nll[2] < nll[0], "more data, better"
    assert "| ticks, bits per byte |" in capsys.readouterr().out
    bench = q0_images.Bench("digits", size, None, "cpu", q0_images.Parts(None, "a", size))
    more = q0_images.Bench("digits", replace(size, train=120), None, "cpu", q0_images.Parts(None, "b", size))
    assert bench.data.test.ids.equal(more.data.test.ids)
    assert bench.data.validation.ids.equal(more.data.validation.ids)
    assert set(bench.data.train.ids.tolist()) < set(more.data.train.ids.tolist())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"q0_images-digits-tiny\.json is missing: .* benchmarks\.q0_images .*digits"):
        data_efficiency.main(Arguments(scale="tiny", figures=tmp_path))


def test_who_is_as_good_already_needs_no_more_data() -> None:
    assert data_efficiency.crossing([(1, 2.0), (2, 1.0)], 3.0) == 1
    assert data_efficiency.crossing([(1, 2.0), (2, 1.0)], 2.0) == 1
    assert data_efficiency.crossing([(1, 2.0), (2, 1.0)], 0.5) is None
