"""Small networks that are not the paper's, as a user would bring them: for images of 28 × 28."""

from __future__ import annotations

from torch import Tensor, nn


def lenet(num_classes: int, in_chans: int, norm: bool = False) -> nn.Module:
    """Convolutions and linear layers; `norm`: what the last layer sees has a mean of 0 and a deviation of 1 for each image, as the
    searched targets have."""
    maps = [nn.Conv2d(in_chans, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    maps += [nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    hidden = [nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()]
    return nn.Sequential(*maps, *hidden, *_unit(64, norm), nn.Linear(64, num_classes))


def mlp(num_classes: int, in_chans: int, norm: bool = False) -> nn.Module:
    """Two hidden layers; `norm`: see `lenet`."""
    hidden = [nn.Linear(784 * in_chans, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, *_unit(256, norm), nn.Linear(256, num_classes))


def _unit(features: int, norm: bool) -> list[nn.Module]:
    return [nn.LayerNorm(features, elementwise_affine=False)] if norm else []


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        self.body = nn.Sequential(*layers)
        self.skip = nn.Conv2d(before, width, 1, stride, bias=False) if (before, stride) != (width, 1) else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = (self.body(values) + self.skip(values)).relu()
        return found


def resnet(num_classes: int, in_chans: int) -> nn.Module:
    """Three residual blocks with BatchNorm, the second and third at half the resolution."""
    stem = nn.Sequential(nn.Conv2d(in_chans, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))
    return nn.Sequential(stem, _Block(8, 8, 1), _Block(8, 16, 2), _Block(16, 32, 2), head)


class _Patches(nn.Module):
    """Patches of 7 × 7 as tokens, each with a learned position."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 7, 7)
        self.position = nn.Embedding(16, width)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.project(images).flatten(2).transpose(1, 2) + self.position.weight
        return tokens


class _Mean(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)


def vit(num_classes: int, in_chans: int) -> nn.Module:
    """A transformer on 16 patches: three layers of 64 channels."""
    options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
    layers = [nn.TransformerEncoderLayer(64, 4, 128, **options) for _ in range(3)]  # type: ignore[arg-type]
    return nn.Sequential(_Patches(in_chans, 64), *layers, nn.LayerNorm(64), _Mean(), nn.Linear(64, num_classes))
