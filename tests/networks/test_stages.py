"""Networks run the same from any search point on, however they were cut."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import Tensor, nn

from decouple.errors import NetworkError
from decouple.networks import Stages


def _resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.resnet18(num_classes=10).eval()


def test_a_cut_resnet_equals_the_whole() -> None:
    net = _resnet()
    stages = Stages.from_module(net, ["layer1", "layer2", "layer3", "layer4", "fc"]).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    points = stages.activations(images)
    assert torch.equal(points[-1], net(images))
    for index in range(4):
        assert torch.equal(stages.run(points[index], index + 1), points[-1])
    assert stages.shapes((3, 64, 64)) == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2), (10,)]


def test_the_parts_share_the_modules_parameters() -> None:
    net = _resnet()
    stages = Stages.from_module(net, ["layer4", "fc"])
    assert {id(p) for p in stages.parameters()} == {id(p) for p in net.parameters()}


def test_an_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(NetworkError, match=r"no layer 'layer5'; did you mean 'layer[1-4]'\?"):
        Stages.from_module(_resnet(), ["layer5", "fc"])


def test_a_cut_inside_of_a_residual_block_says_what_skips_it() -> None:
    with pytest.raises(NetworkError, match=r"cannot be cut at 'layer1.0.conv1'.*a connection skips the cut"):
        Stages.from_module(_resnet(), ["layer1.0.conv1", "fc"])


def test_the_last_point_must_be_the_output() -> None:
    with pytest.raises(NetworkError, match="last search point must be the network's output 'fc', not 'layer4'"):
        Stages.from_module(_resnet(), ["layer1", "layer4"])


def test_one_text_is_not_a_list_of_names() -> None:
    with pytest.raises(NetworkError, match=r"a list of names, such as \['35'\], not as one string"):
        Stages.from_module(_resnet(), "35")


def test_points_must_be_in_order() -> None:
    with pytest.raises(NetworkError, match="in the order of the network"):
        Stages.from_module(_resnet(), ["layer2", "layer1", "fc"])


class _DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(self.body(values)) if values.sum() > 0 else self.head(values)


def test_what_cannot_be_traced_says_why() -> None:
    with pytest.raises(NetworkError, match=r"_DataDependent cannot be traced.*use Stages.from_sequential"):
        Stages.from_module(_DataDependent(), ["body", "head"])


def test_a_sequential_is_cut_by_position_or_name() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    images = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    by_position = Stages.from_sequential(net, [2, 3])
    assert by_position.names == ("2", "3")
    assert torch.equal(by_position(images), net(images))
    assert torch.equal(Stages.from_sequential(net, ["1", "3"])(images), net(images))
    with pytest.raises(NetworkError, match="has no child '9'"):
        Stages.from_sequential(net, [9, 3])
    with pytest.raises(NetworkError, match="must be the output, child '3', not '2'"):
        Stages.from_sequential(net, [1, 2])
    with pytest.raises(NetworkError, match="in the order of the network"):
        Stages.from_sequential(net, [2, 1, 3])


def test_stages_check_their_names() -> None:
    with pytest.raises(NetworkError, match="at least 2 search points"):
        Stages([nn.Linear(1, 1)], ["a"])
    with pytest.raises(NetworkError, match="as many different names"):
        Stages([nn.Linear(1, 1), nn.Linear(1, 1)], ["a", "a"])
    stages = Stages([nn.Linear(1, 1), nn.Linear(1, 1)], ["block0", "logits"])
    with pytest.raises(NetworkError, match="no search point is called 'blok0'; did you mean 'block0'"):
        stages.index("blok0")


def test_a_network_that_does_not_fit_says_how() -> None:
    net = Stages([nn.Conv2d(1, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))], ["a", "b"])
    with pytest.raises(NetworkError, match=r"does not take images of shape \(2, 3, 4, 4\) \(.*expected input"):
        net.shapes((3, 4, 4))
    with pytest.raises(NetworkError, match="labels go up to 2, and the network has 2 logits: expected at least 3"):
        net.check((1, 4, 4), torch.tensor([0, 2]))
    headless = Stages([nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 1)], ["a", "b"])
    with pytest.raises(NetworkError, match=r"'b' has shape \(3, 2, 2\): expected \(classes,\) logits"):
        headless.check((1, 4, 4), torch.tensor([0]))
    for last in (nn.Softmax(1), nn.Identity(), nn.LogSoftmax(1)):
        sure = Stages([nn.Conv2d(1, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(12, 2), last)], ["a", "b"])
        if isinstance(last, nn.Softmax):
            with pytest.raises(
                NetworkError, match=r"the network, at 'b', gives probabilities, .* expected logits, .* leave out its softmax"
            ):
                sure.check((1, 4, 4), torch.tensor([0, 1]))
        else:
            assert sure.check((1, 4, 4), torch.tensor([0, 1])) == [(3, 2, 2), (2,)]


def test_shapes_leave_the_modes_and_statistics_alone() -> None:
    norm = nn.BatchNorm2d(3)
    net = Stages([nn.Sequential(nn.Conv2d(1, 3, 3), norm), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))], ["a", "b"])
    net.stages[1].eval()
    before = norm.running_mean.clone()
    assert net.shapes((1, 4, 4)) == [(3, 2, 2), (2,)]
    assert net.training
    assert norm.training
    assert not net.stages[1].training
    assert torch.equal(norm.running_mean, before)


def test_a_point_that_gives_several_tensors_is_refused() -> None:
    network = Stages([nn.LSTM(4, 4), nn.Linear(4, 3)], ["lstm", "head"])
    for call in (network, network.activations):
        with pytest.raises(NetworkError, match="a search point gives a tuple: expected one tensor"):
            call(torch.rand(2, 4))


def test_a_layer_that_is_there_twice_runs_twice() -> None:
    act = nn.ReLU()
    sequential = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 3))
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(Stages.from_sequential(sequential, [2, 5])(images), sequential(images))


def test_positions_are_positions_whatever_the_layers_are_called() -> None:
    layers = {"a": nn.Flatten(), "b": nn.Linear(16, 8), "c": nn.Linear(8, 3)}
    assert Stages.from_sequential(nn.Sequential(OrderedDict(layers)), [1, 2]).names == ("b", "c")
    tail = nn.Sequential(nn.ReLU(), *layers.values())[1:]
    assert Stages.from_sequential(tail, [1, 2]).names == ("2", "3")
    with pytest.raises(NetworkError, match="no child '3'"):
        Stages.from_sequential(tail, [1, 3])


class _Centred(nn.Sequential):
    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values - 0.5)


def test_what_does_more_than_to_call_its_children_is_no_sequential() -> None:
    with pytest.raises(NetworkError, match=r"_Centred has a forward of its own: .* use Stages.from_module"):
        Stages.from_sequential(_Centred(nn.Flatten(), nn.Linear(4, 3)), [0, 1])
    hooked = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(NetworkError, match="forward hooks"):
        Stages.from_sequential(hooked, [0, 1])
