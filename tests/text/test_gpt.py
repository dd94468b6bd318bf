"""The small GPT: what it sees, where it sees it, and that only its seed decides its weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from decouple.config import GptConfig
from decouple.errors import ConfigError, NetworkError
from decouple.text.gpt import Gpt, norm, rotary_table, rotate

SMALL = GptConfig(layers=2, width=16, heads=2, context=12)


def trained(config: GptConfig = SMALL) -> Gpt:
    """A network whose output projections are no longer 0, in float64."""
    network = Gpt(config, vocabulary=11, seed=0).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) / 4)
    return network


def tokens(rows: int = 2, length: int = 12) -> Tensor:
    return torch.randint(0, 11, (rows, length), generator=torch.Generator().manual_seed(1))


def test_future_tokens_do_not_change_the_past() -> None:
    network, before = trained(), tokens()
    for place in range(1, 12):
        after = before.clone()
        after[:, place:] = (after[:, place:] + 1) % 11
        one, other = network(before), network(after)
        assert torch.allclose(one[:, :place], other[:, :place], atol=1e-12)
        assert not torch.allclose(one[:, place], other[:, place], atol=1e-3), "the token itself is seen"


def test_the_past_is_seen_from_every_later_place() -> None:
    network, before = trained(), tokens()
    after = before.clone()
    after[:, 0] = (after[:, 0] + 1) % 11
    assert bool(((network(before) - network(after)).abs().amax(-1) > 1e-6).all())


def test_rotated_products_depend_on_the_distance_alone() -> None:
    stream = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=stream, dtype=torch.float64)
    cosine, sine = (table.double() for table in rotary_table(40, 8))

    def product(at: int, of: int) -> Tensor:
        return rotate(query, cosine[at], sine[at]) @ rotate(key, cosine[of], sine[of])

    for distance in (0, 1, 7):
        products = torch.stack([product(start + distance, start) for start in range(30)])
        assert torch.allclose(products, products[0].expand(30), atol=1e-6)  # the table is float32
    assert not torch.isclose(product(9, 2), product(9, 5), atol=1e-3)
    assert torch.equal(rotate(query, cosine[0], sine[0]), query), "position 0 is not turned"


def test_the_network_is_what_its_formula_says() -> None:
    """Against a plain reference: explicit mask and softmax, one head and one position after the other."""
    network, inputs = trained(), tokens(rows=1)
    x = norm(network.embed.weight[inputs[0]])
    for block in network.blocks:
        q, k, v = block.attention.qkv(norm(x)).view(12, 3, 2, 8).unbind(1)  # type: ignore[union-attr, operator]
        heads = []
        for head in range(2):
            turned = [
                torch.stack([rotate(norm(z[t, head]), network.cosine[t], network.sine[t]) for t in range(12)])  # type: ignore[index]
                for z in (q, k)
            ]
            scores = (turned[0] @ turned[1].T / 8**0.5).masked_fill(torch.ones(12, 12).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, head])
        x = x + block.attention.out(torch.cat(heads, -1))  # type: ignore[union-attr, operator]
        x = x + block.mlp.out(functional.relu(block.mlp.inner(norm(x))) ** 2)  # type: ignore[union-attr, operator]
    assert torch.allclose(network(inputs)[0], network.head(norm(x)), atol=1e-6)


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(5)
    one = Gpt(SMALL, vocabulary=11, seed=1).state_dict()
    torch.manual_seed(6)
    same, other = (Gpt(SMALL, vocabulary=11, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])
    assert all(parameter.dim() == 2 for parameter in one.values())


def test_a_new_network_is_nearly_indifferent() -> None:
    network, inputs = Gpt(SMALL, vocabulary=11, seed=0), tokens()
    with torch.no_grad():
        loss = functional.cross_entropy(network(inputs[:, :-1]).flatten(0, 1), inputs[:, 1:].flatten())
    assert abs(float(loss) - float(torch.tensor(11.0).log())) < 0.05


def test_dropout_acts_in_training_alone() -> None:
    network = trained(GptConfig(layers=2, width=16, heads=2, context=12, dropout=0.5))
    inputs = tokens()
    assert torch.equal(network(inputs), network(inputs))
    network.train()
    assert not torch.equal(network(inputs), network(inputs))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"width = 16: expected a multiple of 6: each of the 3 heads"):
        GptConfig(width=16, heads=3)
    network: nn.Module = Gpt(SMALL, vocabulary=11, seed=0)
    with pytest.raises(NetworkError, match="13 tokens exceed the context of 12"):
        network(tokens(length=13))
