"""The paper's network is built as the paper describes it, for any image size."""

import pytest
import torch
from torch import Tensor, nn

from decouple.config import NetworkConfig
from decouple.errors import NetworkError
from decouple.networks import paper_network
from decouple.networks.paper import BatchNorm, ConvGroup


def _images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_maps_have_the_papers_shapes() -> None:
    net = paper_network(_images(64, 3, 32, 32), 10, NetworkConfig(width=256), groups=1, seed=0)
    assert net.shapes((3, 32, 32)) == [(256, 15, 15), (256, 7, 7), (256, 3, 3), (10,)]
    assert net.names == ("block0", "block1", "block2", "logits")


def test_groups_deepen_the_blocks_and_keep_the_shapes() -> None:
    images = _images(16, 1, 28, 28)
    shallow, deep = (paper_network(images, 10, NetworkConfig(width=8), groups=g, seed=0) for g in (1, 3))
    assert shallow.shapes((1, 28, 28)) == deep.shapes((1, 28, 28))
    convolutions = [sum(isinstance(m, nn.Conv2d) for m in net.stages[1].modules()) for net in (shallow, deep)]
    assert convolutions == [2, 6]


def test_networks_of_other_depth_share_what_they_both_have() -> None:
    images = _images(16, 1, 12, 12)
    shallow, deep = (paper_network(images, 4, NetworkConfig(width=8), groups=g, seed=5) for g in (1, 2))
    first = [next(m for m in net.stages[1].modules() if isinstance(m, ConvGroup)) for net in (shallow, deep)]
    assert torch.equal(first[0][0].weight, first[1][0].weight)
    assert torch.equal(shallow.stages[-1][1].weight, deep.stages[-1][1].weight)
    other = paper_network(images, 4, NetworkConfig(width=8), groups=1, seed=6)
    assert not torch.equal(other.stages[-1][1].weight, shallow.stages[-1][1].weight)


@pytest.mark.parametrize(("side", "blocks"), [(3, 1), (5, 2), (8, 2), (9, 3), (28, 3)])
def test_blocks_drop_where_the_map_gets_too_small(side: int, blocks: int) -> None:
    net = paper_network(_images(16, 1, side, side), 3, NetworkConfig(width=4), groups=1, seed=0)
    assert len(net) == blocks + 1
    assert net(_images(2, 1, side, side)).shape == (2, 3)


def test_numbers_that_are_too_small_are_refused() -> None:
    with pytest.raises(NetworkError, match="groups = 0, num_classes = 3: expected at least 1"):
        paper_network(_images(16, 1, 8, 8), 3, NetworkConfig(), groups=0, seed=0)


def test_without_whitening_the_first_block_takes_the_images() -> None:
    net = paper_network(_images(16, 3, 8, 8), 3, NetworkConfig(width=4, whitening="none"), groups=1, seed=0)
    assert net.shapes((3, 8, 8)) == [(4, 4, 4), (4, 2, 2), (4, 1, 1), (3,)]


def test_too_small_images_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"2×2 are too small .* at least 3×3"):
        paper_network(_images(16, 1, 2, 2), 3, NetworkConfig(), groups=1, seed=0)


def test_non_square_and_uint8_images_work() -> None:
    images = (_images(16, 3, 12, 20) * 255).byte()
    net = paper_network(images, 3, NetworkConfig(width=4), groups=1, seed=0).eval()
    assert net(images).shape == (16, 3)
    assert torch.allclose(net(images), net(images.float() / 255), atol=1e-6)


def test_convolutions_begin_as_the_identity_on_their_first_inputs() -> None:
    net = paper_network(_images(16, 1, 12, 12), 3, NetworkConfig(width=32), groups=1, seed=0)
    group = next(m for m in net.modules() if isinstance(m, ConvGroup))
    weight = group[0].weight
    assert weight.shape == (32, 8, 3, 3)
    identity = torch.zeros(8, 8, 3, 3)
    identity[range(8), range(8), 1, 1] = 1
    assert torch.equal(weight[:8], identity)
    assert weight[8:].abs().min() > 0
    assert group[0].bias is None


def test_whitening_decorrelates_patches() -> None:
    images = _images(200, 3, 8, 8).cumsum(3)  # correlated neighbours
    net = paper_network(images, 3, NetworkConfig(width=24), groups=1, seed=0)
    standardise, whitening = net.stages[0][0], net.stages[0][1]
    filtered = whitening(standardise(images))[:, :12].transpose(0, 1).flatten(1)
    covariance = filtered @ filtered.T / filtered.shape[1]
    assert torch.allclose(covariance, torch.eye(12), atol=0.05)
    assert torch.equal(whitening.weight[12:], -whitening.weight[:12])
    assert not whitening.weight.requires_grad


def test_batchnorm_has_a_bias_and_no_weight() -> None:
    for statistics, tracked in (("batch", False), ("running", True)):
        norm = BatchNorm(4, eps=1e-2, statistics=statistics)
        assert [name for name, p in norm.named_parameters() if p.requires_grad] == ["bias"]
        assert (norm.running_mean is not None) == tracked


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    paper_network(_images(16, 1, 12, 12), 3, NetworkConfig(width=4), groups=1, seed=0)
    assert torch.equal(torch.rand(1), expected)
