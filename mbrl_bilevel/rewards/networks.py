"""Small networks inside rewards."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from mbrl_bilevel.errors import ConfigError


def reward_network(
    input_size: int, hidden_sizes: Sequence[int], output_size: int, generator: torch.Generator
) -> nn.Sequential:
    """Return an MLP (SiLU) that starts at zero: its last layer has no weight yet.

    A reward built on it therefore starts as its simple part. The last layer's gradient is not
    zero, so it learns from the first step on.

    Raises:
        ConfigError: A size is not a positive integer.
    """
    sizes = [input_size, *hidden_sizes, output_size]
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ConfigError(f"layer sizes {sizes}: each must be a positive integer")
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        # Without its own initialisation, which draws from the global generator.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        nn.init.normal_(linear.weight, std=fan_in**-0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.SiLU()]
    last = layers[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    return nn.Sequential(*layers[:-1])
