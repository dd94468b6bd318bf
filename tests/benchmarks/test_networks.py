"""Networks that are not the paper's."""

from dataclasses import replace

import pytest
import torch

from benchmarks import gap_cases
from decouple.networks.build import build_network


@pytest.mark.parametrize("case", ["mnist-lenet", "mnist-mlp", "mnist-resnet", "mnist-vit"])
def test_a_case_names_a_network_that_is_cut_before_its_logits(case: str) -> None:
    config = gap_cases.CASES[case].config
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = build_network(config.network, images, 10, groups=1, seed=0)
    shapes = network.check((1, 28, 28), torch.arange(8))
    assert shapes[-1] == (10,)
    assert len(shapes[-2]) in (1, 3)
    assert network.digest == build_network(replace(config.network), images, 10, groups=1, seed=0).digest
