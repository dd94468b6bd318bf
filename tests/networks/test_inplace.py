"""What works in place behind a search point leaves the values there as they are, wherever they are used."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import decouple
from decouple import EsConfig, ImageData, LearnConfig, PaperConfig, SearchConfig, Stages
from decouple.errors import NetworkError
from decouple.networks.stages import apply_stage
from decouple.search import Judge


class Add(nn.Module):
    """Adds one, in place or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, values: Tensor) -> Tensor:
        return values.add_(1) if self.inplace else values + 1


class View(nn.Module):
    """Writes through a view of what it is given."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, values: Tensor) -> Tensor:
        if not self.inplace:
            return (values.flatten(1) * 0.5).view_as(values)
        values.view(len(values), -1).mul_(0.5)
        return values


BEGINNINGS = (nn.ReLU, lambda inplace: nn.Dropout(0.0, inplace), nn.Hardswish, Add, View)


def _twin(inplace: bool, begin: int, middle: int, *, images_too: bool) -> Stages:
    """A network whose stages begin with an operation that is in place, or the same that is not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Stages(
            [
                nn.Sequential(Add(inplace and images_too), nn.Flatten(), nn.Linear(16, 8)),
                nn.Sequential(BEGINNINGS[begin](inplace), nn.Linear(8, 8)),  # type: ignore[operator]
                nn.Sequential(BEGINNINGS[middle](inplace), nn.Linear(8, 3)),  # type: ignore[operator]
            ],
            ["first", "second", "logits"],
        )


@pytest.fixture(scope="module")
def data() -> ImageData:
    stream = torch.Generator().manual_seed(0)
    x, y = torch.randn(48, 1, 4, 4, generator=stream), torch.arange(48) % 3
    return ImageData.from_tensors(x, y, test_images=x, test_labels=y, validation=8, prior=8)


PAIRS = list(itertools.product(range(len(BEGINNINGS)), repeat=2))


@pytest.mark.parametrize(("begin", "middle"), PAIRS)
def test_activations_and_fitness_are_those_of_the_twin(begin: int, middle: int, data: ImageData) -> None:
    given, wanted = (_twin(inplace, begin, middle, images_too=True) for inplace in (True, False))
    images = data.train.images.clone()
    for mode, _ in itertools.product((True, False), range(2)):  # the first call in a mode finds out, the second knows
        points = given.train(mode).activations(images), wanted.train(mode).activations(images)
        assert all(torch.equal(one, other) for one, other in zip(*points, strict=True))
        assert torch.equal(given(images), wanted(images))
        with torch.inference_mode():
            assert torch.equal(given.run(images, 0, 1), wanted.run(images, 0, 1))
            assert torch.equal(given.activations(images)[0], points[1][0])
        assert torch.equal(images, data.train.images)
    judges = Judge(given), Judge(wanted)
    point = judges[0].points(images)[0]
    candidates = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(1))
    scores = [judge.fitness(point, candidates, data.train.labels[:4]) for judge in judges]
    assert torch.equal(*scores)
    kept = points[0][0].detach().clone()
    given.run(kept, 1)
    assert torch.equal(kept, points[1][0])


@pytest.mark.parametrize("algorithm", ["es", "paper", "pgpe", "cem", "random", "gradient"])
@pytest.mark.parametrize("begin", range(len(BEGINNINGS)))
def test_searched_and_learned_the_twins_are_equal(begin: int, algorithm: str, data: ImageData, tmp_path: Path) -> None:
    settings = SearchConfig(
        points="all",
        algorithm=algorithm,  # type: ignore[arg-type]
        es=EsConfig(population=4, generations=2),
        paper=PaperConfig(population=6, parents=2, explorers=2, generations=2),
    )
    weights = []
    for inplace in (True, False):
        network = _twin(inplace, begin, begin, images_too=False)
        targets = decouple.search_solution(network, data.train, tmp_path / str(inplace), config=settings)
        learned = copy.deepcopy(network)
        config = LearnConfig(epochs=1, batch=16, supervise="all")
        decouple.learn_targets(learned, data.train, targets, validation=data.validation, config=config)
        weights.append(torch.cat([value.flatten() for value in learned.state_dict().values()]))
    rounding = 1e-5 if BEGINNINGS[begin] is Add else 0  # values + 1 is affine: candidates are written out behind it
    assert torch.allclose(*weights, rtol=0, atol=rounding)


def test_evaluation_leaves_the_users_images_as_they_are(data: ImageData) -> None:
    network, before = _twin(True, 0, 0, images_too=True), data.test.images.clone()
    decouple.accuracy(network, data.test)
    assert torch.equal(data.test.images, before)


def test_a_stage_that_is_in_place_now_and_then_is_refused() -> None:
    class Sometimes(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.relu_() if values.sum() > 0 else values.relu()

    stage = Sometimes()
    apply_stage(stage, torch.tensor([[-1.0]]))
    with pytest.raises(NetworkError, match="Sometimes wrote to its input in place, which it did not do before"):
        apply_stage(stage, torch.tensor([[2.0]]))
