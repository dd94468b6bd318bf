"""What search_passes counts."""

import pytest
import torch
from torch import nn

from benchmarks import search_passes
from decouple.data import ImageData
from decouple.networks import Stages
from decouple.search import Judge


def test_multiply_adds_are_those_of_the_layers() -> None:
    layer, values = nn.Linear(6, 5), torch.zeros(4, 6)
    assert search_passes.multiply_adds(lambda: layer(values)) == 4 * 6 * 5


@pytest.mark.parametrize("factored", [True, False])
def test_of_described_candidates_only_the_rows_pass_through_the_head(
    factored: bool, data: ImageData, network: Stages
) -> None:
    images, labels = data.train.images[:4], data.train.labels[:4]
    judge = Judge(network, factored=factored)
    values = judge.advance(1, judge.advance(0, images.float()))
    found = search_passes.passes_of(judge, judge.points(images)[1], values, labels)
    rows = 4 + 24 + 1 if factored else 4 * 49
    assert found * 4 * 49 == pytest.approx(rows * values[0].numel() * 3)
