"""Recording: what is on disk is what the layers give, and the training does not notice."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from decouple.errors import ConfigError, DamagedFileError, DataError, NetworkError, NotFiniteError, RunDirectoryError
from decouple.trajectories import Recorder, Recording, check_same_samples


class Twice(nn.Module):
    """Uses one layer twice, and gives pairs from another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)
        self.relu = nn.ReLU()
        self.recurrent = nn.RNN(5, 4, batch_first=True)
        self.spare = nn.Linear(1, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, values: Tensor) -> Tensor:
        values = self.relu(self.drop(self.norm(self.relu(self.first(values)))))
        return self.head(self.recurrent(values[:, None])[0][:, 0])


@pytest.fixture
def network() -> Twice:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Twice()


SAMPLES = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(7) % 3


def record(folder: Path, network: nn.Module, step: int = 0, samples: Tensor = SAMPLES, **options) -> Recording:
    layers = options.pop("layers", ["first", "head"])
    Recorder(layers, samples, folder, **options)(step, network)
    return Recording.open(folder)


def test_it_holds_what_the_layers_give_in_evaluation_mode(tmp_path: Path, network: Twice) -> None:
    recorder = Recorder(
        {"one": "first", "memory": "recurrent", "answers": "head"}, SAMPLES, tmp_path / "r", logits="answers"
    )
    recorder(4, network)
    found = Recording.open(tmp_path / "r")
    assert (found.name, found.layers, found.logits, found.steps) == ("r", ("one", "memory", "answers"), "answers", (4,))
    assert found.body == ("one", "memory")
    assert found.ids.tolist() == list(range(7))
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(found.last()["one"], network.first(SAMPLES), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.last()["answers"], network(SAMPLES), rtol=1e-3, atol=1e-3)
    assert found.last()["memory"].shape == (7, 1, 4), "the first of what a recurrent layer returns"


def test_a_training_replaces_what_an_earlier_one_recorded_in_its_folder(tmp_path: Path, network: Twice) -> None:
    first = Recorder(["first", "head"], SAMPLES, tmp_path)
    for step in (0, 20, 10, 100_000):
        first(step, network)
    assert Recording.open(tmp_path).steps == (0, 10, 20, 100_000), "in any order"
    resumed = Recorder(["first", "head"], SAMPLES, tmp_path)
    resumed(10, network)
    assert Recording.open(tmp_path).steps == (0, 10), "one that was killed resumes, and makes what follows again"
    other = Recorder(["first"], SAMPLES, tmp_path)
    other(0, Twice())
    assert Recording.open(tmp_path).layers == ("first",)


def test_first_steps_of_another_network_are_not_mixed_in(tmp_path: Path, network: Twice) -> None:
    for step in (0, 1):
        Recorder(["first", "head"], SAMPLES, tmp_path / "r")(step, network)
    network.spare = nn.Linear(1, 2)
    Recorder(["first", "head"], SAMPLES, tmp_path / "r")(2, network)
    with pytest.raises(
        DamagedFileError,
        match=r"record-00002.* of another architecture than that of record-00000.*: keep each training in a folder of its own",
    ):
        Recording.open(tmp_path / "r")
    Recorder(["first", "head"], SAMPLES, tmp_path / "r")(0, network)
    assert Recording.open(tmp_path / "r").steps == (0,), "one that begins anew replaces it"


def test_samples_go_through_in_batches(tmp_path: Path, network: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = record(tmp_path / "whole", network).last()
    monkeypatch.setattr("decouple.trajectories.recorder.BATCH", 3)
    parts = record(tmp_path / "parts", network).last()
    for layer in whole:
        torch.testing.assert_close(whole[layer], parts[layer], rtol=2e-3, atol=2e-3)


def test_a_training_that_is_recorded_is_the_same_training(tmp_path: Path) -> None:
    def train(recorder: Recorder | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = Twice()
        network.norm.eval()  # a mode of the user's own
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        for step in range(4):
            if recorder is not None:
                recorder(step, network)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(SAMPLES), LABELS).backward()
            optimizer.step()
        assert network.training
        assert not network.norm.training
        assert not any(module._forward_hooks for module in network.modules())
        return network.state_dict()

    recorded, plain = train(Recorder(["first", "head"], SAMPLES, tmp_path, at=(0, 2))), train(None)
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)
    assert Recording.open(tmp_path).steps == (0, 2)


def test_precision_is_half_where_that_is_enough(tmp_path: Path, network: Twice) -> None:
    from decouple.files import load_tensors

    def types(folder: str, factor: float) -> set[torch.dtype]:
        with torch.no_grad():
            network.first.weight.mul_(factor)
            network.first.bias.mul_(factor)
        found = record(tmp_path / folder, network, layers=["first"])
        expected = network.first(SAMPLES).detach()
        torch.testing.assert_close(found.last()["first"], expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))
        tensors = load_tensors(tmp_path / folder / "record-00000.safetensors", unit=f"{found.unit}/record-0")[0]
        return {tensors["layer.first"].dtype}

    assert types("usual", 1) == {torch.float16}
    assert types("large", 1e6) == {torch.float32}
    assert types("small", 1e-14) == {torch.float32}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["frst"], "the network has no layer 'frst'; did you mean 'first'?"),
        (["relu"], "layer 'relu' ran 2 times in a forward pass: expected once"),
        (["spare"], "layer 'spare' ran 0 times"),
    ],
)
def test_layers_that_cannot_be_recorded_are_named(tmp_path: Path, network: Twice, layers: list[str], message: str) -> None:
    recorder = Recorder(layers, SAMPLES, tmp_path)
    with pytest.raises(NetworkError, match=message.replace("?", r"\?")):
        recorder(0, network)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert not list(tmp_path.iterdir())


def test_outputs_that_are_no_rows_are_named(tmp_path: Path) -> None:
    class Sums(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.sum(0)

    with pytest.raises(NetworkError, match=r"layer '0' gives shape \(6,\) for 7 samples: expected a tensor \(7, …\)"):
        Recorder(["0"], SAMPLES, tmp_path)(0, nn.Sequential(Sums()))


def test_values_that_are_not_finite_are_named(tmp_path: Path, network: Twice) -> None:
    with torch.no_grad():
        network.head.bias[1] = float("nan")
    with pytest.raises(NotFiniteError, match="layer 'head' gives NaN or infinity at step 3"):
        Recorder(["first", "head"], SAMPLES, tmp_path)(3, network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "there are no layers to record"),
        ({"layers": "first"}, r"give the layers as a list of names, such as \['first'\]"),
        ({"logits": "haed"}, "logits = 'haed' is none of the recorded layers; did you mean 'head'"),
        ({"ids": torch.zeros(7, dtype=torch.int64)}, r"expected \(7,\) different integers"),
        ({"labels": torch.zeros(6, dtype=torch.int64)}, r"labels have shape \(6,\)"),
        ({"samples": torch.zeros(0, 6)}, r"samples must be a tensor \(N, …\) with N > 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(tmp_path: Path, network: Twice, options: dict, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        record(tmp_path, network, **options)


def test_folders_without_one_recording_are_named(tmp_path: Path, network: Twice) -> None:
    with pytest.raises(RunDirectoryError, match="holds no recording"):
        Recording.open(tmp_path)
    found = record(tmp_path / "r", network)
    with pytest.raises(DataError, match="recording 'r' has no step 9: it has 0"):
        found.at(9)
    Recorder(["first"], SAMPLES, tmp_path / "r", kind="two")(1, network)
    with pytest.raises(DamagedFileError, match="belongs to another recording"):
        Recording.open(tmp_path / "r")
    (tmp_path / "r" / "record-00001.safetensors").write_bytes(b"")
    with pytest.raises(DamagedFileError, match="missing, truncated"):
        Recording.open(tmp_path / "r")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": SAMPLES[:6], "labels": LABELS[:6]}, "7 samples against 6"),
        ({"samples": SAMPLES.flip(0), "labels": LABELS.flip(0), "ids": torch.arange(7).flip(0)}, "in another order"),
        ({"samples": SAMPLES.flip(0), "labels": LABELS}, "the same ids stand for other contents"),
        ({"ids": torch.arange(7) + 10 * (torch.arange(7) == 4)}, r"the first at position 4 \(id 4 against 14\)"),
        ({"labels": LABELS.flip(0)}, "the same ids with other labels"),
        ({"labels": None}, "one has labels, the other has none"),
        ({"folder": "other/a"}, "two recordings are called 'a'"),
    ],
)
def test_other_samples_or_another_order_are_refused(tmp_path: Path, network: Twice, options: dict, message: str) -> None:
    a = record(tmp_path / "a", network, labels=LABELS)
    b = record(tmp_path / options.pop("folder", "b"), network, **{"labels": LABELS, **options})
    with pytest.raises(DataError, match=message):
        check_same_samples([a, b])


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(DataError, match="there are no recordings"):
        check_same_samples([])
