"""A network's state in a file, and copies of networks: what shares memory shares it again, what has no values is refused."""

import pytest
import torch
from torch import Tensor, nn

from decouple.errors import NetworkError
from decouple.files import sharing
from decouple.networks.state import check_values, load_state, on_cpu, own_copy, state_of


class Kept(nn.Module):
    """Has state beside its weights."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def get_extra_state(self) -> object:
        return self.value

    def set_extra_state(self, state: object) -> None:
        self.value = state


def tied() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    network[1].weight = network[0].weight
    network[2].weight = nn.Parameter(network[0].weight.detach())  # other parameters in the same memory, wholly and in part
    network[3].weight = nn.Parameter(network[0].weight.detach()[1:])
    return network


def test_a_copy_shares_what_the_network_shares() -> None:
    network = tied()
    names = [["0.weight", "2.weight", "3.weight"]]
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            copied = own_copy(network)
        assert sharing({name: value.detach() for name, value in copied.named_parameters()}) == names
        assert copied[1].weight is copied[0].weight
        assert torch.equal(copied[3].weight, network[3].weight)
        copied[0].weight.detach().zero_()
        assert not copied[3].weight.any()
        assert network[0].weight.all()
        assert all(parameter.requires_grad and not parameter.is_inference() for parameter in copied.parameters())
    assert set(map(tuple, sharing(on_cpu(state_of(network))))) == {("0.weight", "1.weight", "2.weight", "3.weight")}


def test_a_copy_of_what_was_made_in_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copied = own_copy(network)
    copied(torch.randn(4, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in copied.parameters())
    assert not any(value.is_inference() for value in copied.state_dict().values())


def test_what_cannot_be_copied_is_named() -> None:
    network = nn.Linear(3, 2)
    network.lines = (line for line in "ab")  # type: ignore[assignment]
    with pytest.raises(NetworkError, match="member 3 cannot be copied: cannot pickle 'generator' object"):
        own_copy(network, "member 3")


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"'0\.weight' of member 1 is not initialised: call the network on a batch first"):
        check_values(nn.Sequential(nn.LazyLinear(3)), "member 1")
    with pytest.raises(NetworkError, match="'weight' of the network is on the meta device"):
        check_values(nn.Linear(3, 2, device="meta"))
    check_values(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


def test_extra_state_is_kept_where_it_is_a_tensor() -> None:
    with pytest.raises(NetworkError, match=r"'0\._extra_state' of the network is a dict, .*: expected a tensor"):
        state_of(nn.Sequential(Kept({})))
    state: dict[str, Tensor] = state_of(nn.Sequential(Kept(torch.arange(3))))
    other = nn.Sequential(Kept(None))
    load_state(other, state)
    assert torch.equal(other[0].value, torch.arange(3))
    assert other[0].value is not state["0._extra_state"]
    with pytest.raises(NetworkError, match=r"do not fit the network: .*0\.weight"):
        load_state(nn.Sequential(nn.Linear(3, 2)), state)
