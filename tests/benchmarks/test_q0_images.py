"""The image benchmark at its smallest, and the plans that it writes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import q0_images
from decouple.errors import ConfigError
from decouple.q0.plan import Plans


def test_it_leaves_receipt_picture_table_and_plans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = replace(q0_images.SCALES["tiny"]["digits"], train=60, precision="float32", grid={"weight_decay": (0.06,)})
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": size})
    monkeypatch.setattr(q0_images, "CHANGES", {"q0 without noise": {"perturb": 0.0}})
    plans = tmp_path / "plans.json"
    arguments = q0_images.Arguments(scale="tiny", device="cpu", figures=tmp_path, plans=plans)
    q0_images.main(arguments)
    entry = json.loads((tmp_path / "q0_images-digits-tiny.json").read_text())["figures"]["data"]["digits"]
    assert [p["epochs"] for p in entry["regime"]] == [2, 4]
    assert list(entry["ablation"]) == ["q0 itself", "q0 without noise"]
    ensemble = entry["all"]["models of 2 epochs"][0]
    assert [(p["epochs"], p["members"]) for p in ensemble] == [(2, 1), (4, 2), (6, 3)]
    assert ensemble[0]["disagreement"] == 0 < ensemble[1]["disagreement"]
    assert 0 < ensemble[2]["accuracy_uniform"] <= 1
    assert (tmp_path / "q0_images-digits-tiny.png").stat().st_size > 1000
    assert (tmp_path / "q0_images-digits-tiny.md").read_text().startswith("**digits**, 60 images")
    assert "times fewer (seeds:" in capsys.readouterr().out
    best = Plans.read(plans).best(6)[0]
    assert best.images == 60
    assert "digits, 60 training images" in Plans.read(plans).text(6, 2)
    assert {row.method for row in Plans.read(plans).rows} == {"single", "ensemble", "snapshots", "q0"}


def test_the_same_recipe_is_the_same_whatever_follows() -> None:
    """A population on the way is what a smaller budget gives, where the noise does not look ahead."""
    size = replace(q0_images.SCALES["tiny"]["digits"], train=40, precision="float32")
    parts = q0_images.Parts(None, "test", size)
    bench = q0_images.Bench("digits", size, None, "cpu", parts)
    q0 = replace(size.base, perturb_last=1.0, cycles=3, trajectories=1)
    whole = bench.measure(q0_images.Recipe("q0", "q0", q0), 0)
    part = bench.measure(q0_images.Recipe("q0", "q0", replace(q0, cycles=2)), 0)
    assert whole[:2] == part
    start = bench.network(5)
    started = bench.train(q0_images.Recipe("q0", "q0", replace(q0, cycles=1)), 0, [start])[0]
    assert started["test_last"] != pytest.approx(part[0]["test_last"]), "it begins with the network that it is given"


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"cycles": 1}, "2 × 8 epochs, lr 0.3, weight decay 0.06"),
        (
            {"cycles": 9, "perturb": 1.0},
            "2 × 3 cycles of 4 epochs (the first: 8), lr 0.3, weight decay 0.06, noise 1, the first 3 of 9 cycles",
        ),
    ],
)
def test_a_recipe_in_words(recipe: dict[str, float], expected: str) -> None:
    whole = {"first_epochs": 8, "epochs": 4, "lr": 0.3, "weight_decay": 0.06, "perturb": 0, "alpha": 0, "shape": "linear"}
    assert q0_images.text_of({**whole, **recipe}, {"members": 6, "trajectories": 2}) == expected


def test_data_without_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="no sizes for mnist: expected digits"):
        q0_images.main(q0_images.Arguments(scale="tiny", data=("mnist",)))
