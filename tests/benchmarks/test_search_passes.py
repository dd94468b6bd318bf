"""What search_passes counts."""

import pytest
import torch
from torch import nn

from benchmarks import search_passes
from benchmarks.timing import Counting
from decouple.config import PaperConfig
from decouple.data import ImageData
from decouple.networks import Stages
from decouple.search import Judge, PaperSearch, search_batch


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


def test_bare_passes_are_of_the_candidates_that_a_search_scores(network: Stages, data: ImageData) -> None:
    images, labels = data.train.images[:4], data.train.labels[:4]
    counting = Counting(network)
    algorithm = PaperSearch(
        PaperConfig(
            population=12, parents=2, explorers=4, generations={"block0": 3, "blocks": 2, "logits": 1}, smoothing="noise"
        )
    )
    found = search_batch(counting, images, labels, algorithm, seed=0)
    generations = [(point.index, count) for point, count in counting.scored if count > 1]
    assert sum(count for _, count in generations) == found.evaluations
    assert [index for index, _ in generations] == [0] * 4 + [1] * 3 + [2] * 2
    assert [total for _, total in counting.advanced if total > 4] == [4 * 12] * 3, "the population goes from point to point"
    bare = Counting(network)
    search_passes.forward_passes(bare, images, counting, torch.channels_last)()
    assert [total for _, total in bare.advanced if total > 4] == [4 * 12] * 3
