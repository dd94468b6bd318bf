"""Where networks can be cut."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from decouple.errors import NetworkError
from decouple.networks import Stages
from decouple.networks.points import cut_points, proposed_points

SHAPE = (3, 64, 64)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images)
        values = values + self.inner(values)
        return self.head(values.mean((2, 3)))


def test_a_skip_connection_leaves_no_cut_inside_it() -> None:
    found = cut_points(Residual(), (1, 6, 6))
    assert [(point.name, point.shape, point.parameters) for point in found] == [
        ("stem", (4, 6, 6), 40),
        ("head", (3,), 148 + 15),
    ]


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "avgpool", "fc"]),
        ("squeezenet1_1", ["features.1", "features.4", "features.7", "features", "flatten"]),
    ],
)
def test_every_point_can_be_cut_and_computes_the_same(name: str, proposed: list[str]) -> None:
    network = getattr(torchvision.models, name)(num_classes=5).eval()
    points = cut_points(network, SHAPE)
    assert [point.name for point in points if point.proposed] == proposed
    assert sum(point.parameters for point in points) == sum(p.numel() for p in network.parameters())
    names = [point.name for point in points]
    stages = Stages.from_module(network, names).eval()
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = stages.activations(images)
        torch.testing.assert_close(values[-1], network(images))
    assert [tuple(value.shape[1:]) for value in values] == [point.shape for point in points]


def test_a_network_of_one_width_is_cut_at_even_distances() -> None:
    layers = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(8)]
    assert proposed_points(nn.Sequential(*layers, nn.Linear(8, 2)), (8,)) == ["1", "3", "5", "7", "8"]


def test_inputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(NetworkError, match=r"the network does not take images of shape \(2, 3, 6, 6\) \("):
        cut_points(Residual(), (3, 6, 6))
    with pytest.raises(NetworkError, match="cannot be traced"):
        cut_points(torch.nn.Sequential(Branching()), (4,))
    with pytest.raises(NetworkError, match="Two returns a tuple: expected one tensor of logits"):
        cut_points(Two(), (4,))
    grey = "its first convolution takes 3 channels, the images have 1: give a network that takes them, as timm's do"
    network = torchvision.models.resnet18(num_classes=5)
    with pytest.raises(NetworkError, match=grey):
        cut_points(network, (1, 64, 64))
    with pytest.raises(NetworkError, match=grey):
        Stages.from_module(network, ["layer4", "fc"]).shapes((1, 64, 64))


class Branching(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values if values.sum() > 0 else -values


class Two(nn.Module):
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values, values


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.norm(self.lstm(images.flatten(1, 2))[0][:, -1]))


def test_a_layer_that_gives_several_tensors_is_no_point() -> None:
    assert [point.name for point in cut_points(_Recurrent(), (1, 8, 8))] == ["norm", "fc"]
