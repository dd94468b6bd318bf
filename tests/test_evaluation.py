"""Evaluation of networks and ensembles against scikit-learn, on everything that gives images and labels."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, log_loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import decouple
from decouple import Ensemble, Evaluation, Split, evaluate
from decouple.data import ImageData
from decouple.errors import DataError, DecoupleError, NetworkError, NotFiniteError
from decouple.networks import Stages


def _mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(), nn.ReLU(), nn.Linear(16, 3))


def test_the_figures_are_those_of_scikit_learn(data: ImageData) -> None:
    model = _mlp()
    found = evaluate(model, data.train)
    with torch.no_grad():
        p = model.eval()(data.train.images).double().softmax(1).numpy()
    labels = data.train.labels.numpy()
    assert found.images == len(labels)
    assert found.accuracy == accuracy_score(labels, p.argmax(1))
    assert found.nll == pytest.approx(log_loss(labels, p))
    assert found.brier == pytest.approx(brier_score_loss(labels, p, scale_by_half=False))
    assert found.confusion == tuple(map(tuple, confusion_matrix(labels, p.argmax(1)).tolist()))
    assert sum(found.reliability.counts) == found.images
    assert found.ece == found.reliability.ece


def test_all_that_gives_images_and_labels_gives_the_same(data: ImageData, network: Stages) -> None:
    test = data.test
    expected = evaluate(network, data)
    assert evaluate(network, test) == expected
    batches = DataLoader(TensorDataset(test.images, test.labels.int(), test.ids), batch_size=4)
    for given in (batches, ([test.images[i : i + 1], test.labels[i : i + 1]] for i in range(len(test)))):
        found = evaluate(network, given)
        assert found.confusion == expected.confusion
        assert found.nll == pytest.approx(expected.nll, rel=1e-5)


def test_an_ensemble_is_evaluated_on_its_mixture(data: ImageData) -> None:
    members, weights = [_mlp(seed).eval() for seed in (0, 1)], torch.tensor([0.3, 0.7])
    found = evaluate(Ensemble(members, weights), data)
    with torch.no_grad():
        mixed = sum(w * m(data.test.images).double().softmax(1) for w, m in zip(weights, members, strict=True))
    assert isinstance(mixed, torch.Tensor)
    truth = mixed[torch.arange(len(data.test)), data.test.labels]
    assert found.nll == pytest.approx(float(-truth.log().mean()), abs=1e-6)


def test_the_model_stays_in_its_mode(data: ImageData) -> None:
    model = _mlp().train()
    model[2].eval()  # type: ignore[index]
    assert evaluate(model, data) == evaluate(model, data), "without dropout"
    assert [part.training for part in model.modules()] == [True, True, True, False, True, True]


def test_a_model_of_ones_own_gets_bytes_as_floats(data: ImageData) -> None:
    images = (data.test.images.clamp(0, 1) * 255).byte()
    as_bytes, as_floats = (Split(each, data.test.labels, data.test.ids) for each in (images, images.float() / 255))
    assert evaluate(_mlp(), as_bytes) == evaluate(_mlp(), as_floats)


def test_names_of_classes_are_those_of_the_argument_the_data_or_the_model(data: ImageData, network: Stages) -> None:
    test = data.test
    batches = [(test.images, test.labels)]
    assert evaluate(_mlp(), batches).classes == ("0", "1", "2")
    named = Split(test.images, test.labels, test.ids, ("ant", "bee", "cat"))
    assert evaluate(_mlp(), named).classes == ("ant", "bee", "cat")
    ensemble = Ensemble([_mlp()], [1.0], classes=["x", "y", "z"])
    assert evaluate(ensemble, batches).classes == ("x", "y", "z")
    assert evaluate(ensemble, named, classes=["1st", "2nd", "3rd"]).classes == ("1st", "2nd", "3rd")
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for parameter in constant.parameters():
        nn.init.zeros_(parameter)
    assert evaluate(constant, named).confused() == [("bee", "ant", 3), ("cat", "ant", 3)]


def test_accuracy_is_that_of_a_split_or_of_a_data_sets_test_part(data: ImageData) -> None:
    assert decouple.accuracy(_mlp(), data) == decouple.accuracy(_mlp(), data.test)
    assert decouple.accuracy(_mlp(), data) == pytest.approx(evaluate(_mlp(), data).accuracy, abs=1e-6)
    with pytest.raises(DataError, match="labels go from 0 to 2, and the model has 2 logits: expected 0 to 1"):
        decouple.accuracy(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), data)


def test_it_shows_itself(data: ImageData) -> None:
    found = evaluate(_mlp(), data, classes=["<ant>", "bee", "cat"])
    assert repr(found).startswith("Evaluation(9 images: accuracy ")
    page = found._repr_html_()
    assert "&lt;ant&gt;" in page
    assert "data:image/svg+xml;base64," in page
    assert len(found.figure().axes) == 2


class Broken(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> object:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (torch.zeros(9), NetworkError, r"returned \(9,\) for 9 images: expected logits \(B, C\)"),
        ({}, NetworkError, "returned dict for 9 images"),
        (torch.full((9, 3), torch.nan), NotFiniteError, "image 0 of 9 is NaN"),
        (torch.full((9, 3), 1 / 3), NetworkError, "the Broken gives probabilities, .* expected logits"),
        (torch.zeros(9, 2), DataError, "labels go from 0 to 2, and the model has 2 logits: expected 0 to 1"),
    ],
)
def test_answers_that_are_no_logits_are_named(
    data: ImageData, answer: object, kind: type[DecoupleError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        evaluate(Broken(answer), data)


IMAGES, LABELS = torch.zeros(2, 1, 8, 8), torch.zeros(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no images to evaluate"),
        (3, "must be a Split, an ImageData or batches, not int"),
        (TensorDataset(IMAGES, LABELS), "not TensorDataset; a Dataset goes through a DataLoader"),
        ([(IMAGES, LABELS)], r"batch 0 is float32 \(2, 1, 8, 8\) and float32 \(2,\): expected images"),
        ([(IMAGES[0], 1)], "batch 0 is a tuple: expected images"),
        ([{"image": IMAGES}], "batch 0 is a dict: expected images"),
    ],
)
def test_what_gives_no_images_and_labels_is_named(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(_mlp(), given)


def test_what_is_no_network_is_named(data: ImageData) -> None:
    with pytest.raises(DecoupleError, match="model must be a Module, not function"):
        evaluate(lambda images: images, data)  # type: ignore[arg-type]


def test_too_few_names_are_refused(data: ImageData) -> None:
    with pytest.raises(DataError, match="2 classes are named, and the model has 3 logits"):
        evaluate(_mlp(), data, classes=["ant", "bee"])


def test_names_travel_from_the_data_to_networks_populations_and_files(data: ImageData, tmp_path: Path) -> None:
    names = ("ant", "bee", "cat")
    splits = {
        part: dataclasses.replace(getattr(data, part), classes=names) for part in ("train", "validation", "prior", "test")
    }
    named = dataclasses.replace(data, classes=names, **splits)
    network = Stages.from_sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)), [2, 3])
    decouple.train_sgd(network, named.train, validation=named.validation, config=decouple.SgdConfig(epochs=1))
    assert network.classes == names
    config = decouple.Q0Config(cycles=2, epochs=1)
    ensemble = decouple.q0.train_population([network], named, tmp_path / "population", config=config)
    ensemble.save(tmp_path / "file.safetensors")
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    for source in ("population", "file.safetensors"):
        again = Ensemble.load(tmp_path / source, network=own)
        assert again.classes == names
        assert isinstance(again.members[0], Stages)
        assert torch.equal(again(data.test.images), ensemble(data.test.images))
    found = evaluate(again, [(data.test.images, data.test.labels)])
    assert isinstance(found, Evaluation)
    assert found.classes == names
