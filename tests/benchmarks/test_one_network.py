"""What one network keeps of a population, at its smallest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import one_network, q0_images


def test_a_share_is_that_of_the_means() -> None:
    seeds = [
        {
            "population": {"accuracy": 90.0, "nll": 0.2},
            "labels": {"accuracy": 80.0, "nll": 0.4},
            "distilled": {"accuracy": a, "nll": n},
        }
        for a, n in ((85.0, 0.35), (89.0, 0.25))
    ]
    assert one_network.kept(seeds, "accuracy") == pytest.approx(0.7)
    assert one_network.kept(seeds, "nll") == pytest.approx(0.5)
    seeds[0]["labels"]["accuracy"] = 101.0
    assert one_network.kept(seeds, "accuracy") is None, "the population is no better"


def test_it_leaves_a_table_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = replace(q0_images.SCALES["tiny"]["digits"], train=60, precision="float32", seeds=(0,))
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": size})
    arguments = one_network.Arguments(scale="tiny", epochs=2, device="cpu", figures=tmp_path, out=tmp_path / "parts")
    one_network.main(arguments)
    entry = json.loads((tmp_path / "one_network-tiny.json").read_text())["figures"]["data"]["digits"]
    assert list(entry["rows"]) == ["population", "labels", "distilled"]
    labels, distilled = entry["seeds"][0]["labels"], entry["seeds"][0]["distilled"]
    assert labels["nll"] != distilled["nll"]
    table = (tmp_path / "one_network-tiny.md").read_text()
    assert f"{entry['rows']['population']['accuracy']['mean']:.2f}" in table
    assert table in capsys.readouterr().out
    monkeypatch.setattr(one_network, "measure", lambda *_: pytest.fail("it is there already"))
    one_network.main(arguments)
