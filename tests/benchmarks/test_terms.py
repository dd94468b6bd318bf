"""Further terms of the fitness, on digits and in seconds."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import terms
from benchmarks.judges import Fading, out_of_fold
from decouple.errors import ConfigError
from decouple.files import read_json
from decouple.fitness import Candidates, Peers, log_likelihood
from decouple.seeds import generator


def test_every_row_differs_from_plain_sgd_by_its_term(tmp_path: Path) -> None:
    rows = ("similarity, 10", "mirrored, 1", "noisy, 1", "heads at every block, 0.3", "judged out of fold, 1")
    arguments = terms.Arguments(images=40, data=("digits",), rows=rows, seeds=(0, 1), figures=tmp_path, device="cpu")
    terms.main(arguments)
    found = read_json(tmp_path / "terms-40.json")["figures"]["rows"]
    assert list(found) == [f"{method}, {row}" for row in ("nothing else", *rows) for method in ("SGD", "live")]
    assert found["SGD, nothing else"]["against_sgd"]["mean"] == 0
    nlls = [[seed["test_nll"] for seed in row["seeds"]] for row in found.values()]
    assert len({tuple(nll) for nll in nlls}) == len(found), "no two rows are the same"


def test_targets_fade_to_nothing_and_more_epochs_are_more_steps(tmp_path: Path) -> None:
    rows = ("fading targets", "4 times the epochs")
    arguments = terms.Arguments(images=40, data=("digits",), rows=rows, seeds=(0,), figures=tmp_path, device="cpu")
    found = terms.run(arguments)["rows"]
    assert list(found) == ["SGD, nothing else", "live, nothing else", "live, fading targets", "SGD, 4 times the epochs"]
    nlls = [row["seeds"][0]["test_nll"] for row in found.values()]
    assert nlls[3] not in nlls[:3]
    assert nlls[1] == nlls[2], "the only step is the first one"

    @dataclass(frozen=True)
    class Weight:
        target_weight: float

        def __call__(self, network: object, batch: object) -> torch.Tensor:
            return torch.tensor(self.target_weight)

    faded = Fading(Weight(0.5), steps=4)  # type: ignore[arg-type]
    assert [float(faded(None, None)) for _ in range(4)] == [0.5, 0.375, 0.25, 0.125]  # type: ignore[arg-type]


def test_soft_labels_are_those_of_networks_that_never_saw_the_image() -> None:
    size = terms.Size(width=4, solutions=1, training=(("digits", terms.TRAINING["digits", 40]),))
    of_seed = terms.Seed.of(terms.Arguments(device="cpu"), size, "digits", 0)
    before = out_of_fold(of_seed, 4).probabilities
    assert torch.allclose(before.sum(1), torch.ones(40))
    order = torch.randperm(40, generator=generator(0, "folds"))
    labels = of_seed.data.train.labels.clone()
    labels[order[0]] += 1 if labels[order[0]] < 9 else -1  # of the first fold
    train = replace(of_seed.data.train, labels=labels)
    after = out_of_fold(replace(of_seed, data=replace(of_seed.data, train=train)), 4).probabilities
    same = (before == after).all(1)
    assert same[order[0::4]].all(), "its fold is judged by a network that never saw its label"
    assert not same[order[1::4]].any()


def test_a_misspelt_row_is_refused() -> None:
    with pytest.raises(SystemExit, match="no row is called similarity, 11"):
        terms.run(terms.Arguments(images=40, data=("digits",), rows=("similarity, 11",)))


@pytest.mark.parametrize("term", [terms.mirrored, terms.noisy, terms.dropped])
def test_candidates_of_an_image_are_judged_alike(term: object) -> None:
    """A head that looks at nothing that the term changes gives what it gives without the term."""
    values = torch.randn(5, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5)

    def constant(flat: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.arange(len(flat)) % 5, 5).float()

    peers = Peers(values[:, 0], labels)
    candidates = Candidates(values.flatten(0, 1), constant(values.flatten(0, 1)), labels, peers, constant)
    assert torch.equal(term(candidates), log_likelihood(candidates.logits, labels))  # type: ignore[operator]


def test_images_that_nothing_is_known_of_are_refused() -> None:
    with pytest.raises(ConfigError, match="images 50 of digits: expected 40 of digits, 2000 of cifar10"):
        terms.run(terms.Arguments(images=50, data=("digits",)))
