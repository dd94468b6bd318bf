"""The yardsticks of search_speed do what they are compared with."""

import torch
from torch.nn import functional

from benchmarks import search_speed
from benchmarks.plain import plain_search
from benchmarks.timing import Counting
from decouple.config import NetworkConfig, PaperConfig
from decouple.data import ImageData
from decouple.networks import Stages, paper_network
from decouple.search import Judge, PaperSearch, search_batch


def test_the_plain_form_is_the_search_that_ours_is() -> None:
    """Two codes of one algorithm: the same cross-entropy after each point, up to chance."""
    stream = torch.Generator().manual_seed(0)
    images, labels = torch.randn(48, 1, 14, 14, generator=stream), torch.arange(48) % 5
    network = paper_network(images, 5, NetworkConfig(width=8, blocks=2), groups=1, seed=0)
    config = PaperConfig(
        population=24, parents=4, explorers=10, generations=12, alpha=0.3, boost=2.0, blur=1, smoothing="noise"
    )
    ours, plain, before = torch.zeros(3, 3), torch.zeros(3, 3), torch.zeros(3, 3)
    for seed in range(3):
        found = search_batch(Judge(network), images, labels, PaperSearch(config), seed=seed)
        ours[seed], before[seed] = found.after.mean(1), found.before.mean(1)
        judge = Judge(network)
        targets = plain_search(judge, images, labels, config, torch.Generator().manual_seed(seed))
        for point, target in zip(judge.points(images[:2]), targets, strict=True):
            plain[seed, point.index] = functional.cross_entropy(judge.logits(point, target), labels)
    assert (ours[:, 0] < before[:, 0] - 0.3).all()
    assert torch.allclose(ours.mean(0), plain.mean(0), rtol=0.1, atol=0.02)


def test_stock_evotorch_improves_the_fitness(network: Stages, data: ImageData) -> None:
    judge = Counting(network)
    images, labels = data.train.images[:1], data.train.labels[:1]
    point = judge.points(data.train.images[:2])[0]
    search_speed.stock_search(judge, point, judge.advance(0, images)[0], labels, population=10, generations=3)
    assert judge.evaluations >= 10 * 4
