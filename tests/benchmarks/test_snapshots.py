"""Other ways to make snapshots: what is known of them in advance, and the whole at its smallest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import q0_images, snapshots
from benchmarks.common import Parts
from benchmarks.recipes import Recipe
from benchmarks.snapshots import Way, trained
from decouple.networks import Stages

SIZE = replace(q0_images.SCALES["tiny"]["digits"], train=60, precision="float32", seeds=(0,))
CONFIG = replace(SIZE.base, perturb=0.5)


@pytest.fixture(scope="module")
def bench() -> q0_images.Bench:
    return q0_images.Bench("digits", SIZE, None, "cpu", Parts(None, "snapshots", SIZE))


def test_nothing_changed_is_q0(bench: q0_images.Bench) -> None:
    """Member by member, in a chain that is kept in memory."""
    found = snapshots.measure(bench, CONFIG, Way(), 0)
    recipe = Recipe("q0", "q0", replace(CONFIG, trajectories=2, cycles=2))
    expected = bench.train(recipe, 0)[-1]
    assert expected["epochs"] == SIZE.budget
    assert found == {name: value for name, value in expected.items() if name in found}


def test_distilled_from_all_is_from_the_predecessor_where_there_is_one(bench: q0_images.Bench) -> None:
    ways = [Way(taught_by="all"), Way(taught_by="predecessor"), Way()]
    of_all, of_one, plain = ([weights(member) for member in trained(bench, CONFIG, way, 6, 0)] for way in ways)
    for a, b in zip(of_all, of_one, strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(of_one[1], plain[1])


@pytest.mark.parametrize(
    ("way", "members"), [(Way(), 4), (Way(trunk=True), 5), (Way(last_epochs=2), 6), (Way(copies=2), 12)]
)
def test_ways_fill_the_budget(bench: q0_images.Bench, monkeypatch: pytest.MonkeyPatch, way: Way, members: int) -> None:
    epochs, train = [], snapshots.train_cycle

    def counted(*args: object) -> list[float]:
        losses = train(*args)  # type: ignore[arg-type]
        epochs.extend(losses)
        return losses

    monkeypatch.setattr(snapshots, "train_cycle", counted)
    assert len(trained(bench, CONFIG, way, 6, 0)) == members
    assert len(epochs) == 6


def test_trajectories_share_a_trunk_and_part(bench: q0_images.Bench) -> None:
    first, *_, own, other = trained(bench, CONFIG, Way(trunk=True), 8, 0)
    alone = trained(bench, CONFIG, Way(), 8, 0)[0]
    torch.testing.assert_close(weights(first), weights(alone))
    assert not torch.allclose(weights(own), weights(other))


def test_an_average_is_over_the_last_half() -> None:
    network = nn.Linear(2, 1)
    average = snapshots._Average(network, 5)
    for value in (10.0, 10.0, 1.0, 2.0, 6.0):
        nn.init.constant_(network.weight, value)
        average.step()
    mean = average.network(torch.zeros(1, 2))
    assert isinstance(mean, nn.Linear)
    torch.testing.assert_close(mean.weight, torch.full((1, 2), 3.0))


def test_several_say_the_mean_of_their_probabilities() -> None:
    members = [nn.Linear(3, 4), nn.Linear(3, 4)]
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([member(inputs).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(snapshots._together(members, inputs).softmax(1), expected)


def test_it_leaves_a_table_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(q0_images.SCALES, "tiny", {"digits": replace(SIZE, budget=3)})
    monkeypatch.setattr(snapshots, "WAYS", {name: snapshots.WAYS[name] for name in ("q0", "averaged weights")})
    arguments = snapshots.Arguments(scale="tiny", device="cpu", figures=tmp_path, out=tmp_path / "parts")
    snapshots.main(arguments)
    rows = json.loads((tmp_path / "snapshots-tiny.json").read_text())["figures"]["data"]["digits"]["rows"]
    assert list(rows) == ["q0", "averaged weights"]
    assert rows["q0"]["against_q0"]["mean"] == 0 != rows["averaged weights"]["against_q0"]["mean"]
    table = (tmp_path / "snapshots-tiny.md").read_text()
    assert f"{rows['averaged weights']['test_calibrated']['mean']:.4f}" in table
    assert table in capsys.readouterr().out
    monkeypatch.setattr(snapshots, "measure", lambda *_: pytest.fail("it is there already"))
    snapshots.main(arguments)


def weights(network: nn.Module) -> torch.Tensor:
    assert isinstance(network, Stages)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
