"""What one network keeps of a population, at its smallest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import one_network, q0_images


def test_a_share_is_that_of_the_means() -> None:
    def row(accuracy: float, nll: float) -> dict[str, dict[str, float]]:
        return {"accuracy": {"mean": accuracy}, "nll": {"mean": nll}}

    rows = {"population": row(90.0, 0.2), "labels": row(80.0, 0.4), "distilled": row(87.0, 0.3)}
    assert one_network.kept(rows, "distilled", "accuracy") == pytest.approx(0.7)
    assert one_network.kept(rows, "distilled", "nll") == pytest.approx(0.5)
    rows["labels"] = row(91.0, 0.4)
    assert one_network.kept(rows, "distilled", "accuracy") is None, "the population is no better"


def test_it_leaves_a_table_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = replace(q0_images.SCALES["tiny"]["digits"], train=60, precision="float32", seeds=(0,))
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": size})
    arguments = one_network.Arguments(scale="tiny", epochs=2, device="cpu", figures=tmp_path, out=tmp_path / "parts")
    one_network.main(arguments)
    entry = json.loads((tmp_path / "one_network-tiny.json").read_text())["figures"]["data"]["digits"]
    assert list(entry["rows"]) == ["population", *one_network.ROWS]
    assert len({seeds[0]["nll"] for seeds in entry["seeds"].values()}) == 1 + len(one_network.ROWS)
    table = (tmp_path / "one_network-tiny.md").read_text()
    assert f"{entry['rows']['population']['accuracy']['mean']:.2f}" in table
    assert table in capsys.readouterr().out
    monkeypatch.setattr(one_network, "measure", lambda *_: pytest.fail("it is there already"))
    one_network.main(arguments)
