"""Further terms of the fitness, on digits and in seconds."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import terms
from decouple.errors import ConfigError
from decouple.files import read_json
from decouple.fitness import Candidates, Company, log_likelihood


def test_every_row_differs_from_plain_sgd_by_its_term(tmp_path: Path) -> None:
    rows = ("similarity, 10", "mirrored, 1", "noisy, 1")
    arguments = terms.Arguments(images=40, data=("digits",), rows=rows, seeds=(0, 1), figures=tmp_path, device="cpu")
    terms.main(arguments)
    found = read_json(tmp_path / "terms-40.json")["figures"]["rows"]
    assert list(found) == [f"{method}, {row}" for row in ("nothing else", *rows) for method in ("SGD", "live")]
    assert found["SGD, nothing else"]["against_sgd"]["mean"] == 0
    nlls = [[seed["test_nll"] for seed in row["seeds"]] for row in found.values()]
    assert len({tuple(nll) for nll in nlls}) == len(found), "no two rows are the same"


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

    company = Company(values[:, 0], labels)
    candidates = Candidates(values.flatten(0, 1), constant(values.flatten(0, 1)), labels, company, constant)
    assert torch.equal(term(candidates), log_likelihood(candidates.logits, labels))  # type: ignore[operator]


def test_images_that_nothing_is_known_of_are_refused() -> None:
    with pytest.raises(ConfigError, match="images 50 of digits: expected 40 of digits, 2000 of cifar10"):
        terms.run(terms.Arguments(images=50, data=("digits",)))
