"""The reward between classes."""

import pytest
import torch

from mbrl_bilevel.rewards import OneHotReward
from tests.rewards.cases import normal, randomise, spd

C = 4


@pytest.mark.parametrize("structure", ["scalar", "diagonal", "full"])
def test_the_table_is_the_quadratic_form_of_the_codes(structure) -> None:
    for seed in range(5):
        reward = randomise(OneHotReward(C, structure), seed)
        u = reward.metric.precision().matrix()
        codes = torch.eye(C, dtype=torch.float64)
        differences = codes[:, None] - codes[None, :]
        expected = -torch.einsum("abi,ij,abj->ab", differences, u, differences)
        torch.testing.assert_close(reward.table(), expected)
        assert torch.equal(reward.table().diagonal(), torch.zeros(C, dtype=torch.float64))
        off_diagonal = ~torch.eye(C, dtype=torch.bool)
        assert (reward.table()[off_diagonal] < 0).all()


def test_a_scalar_counts_the_misses() -> None:
    """Theory, section 3: `r = -2 beta [y_hat != y]`."""
    reward = OneHotReward(C, "scalar", 0.3)
    y_hat, y = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2, 2, 0])
    torch.testing.assert_close(reward(y_hat, y), torch.tensor([0.0, -0.6, 0.0, -0.6]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_it_broadcasts_over_samples(dtype: torch.dtype) -> None:
    reward = OneHotReward(C, "full", spd(0, C))
    samples, y = torch.arange(12).reshape(3, 4) % C, torch.tensor([3, 1, 0, 2])
    found = reward(samples.to(dtype), y.to(dtype))
    assert found.shape == (3, 4)
    table = reward.table()
    for k in range(3):
        for s in range(4):
            assert found[k, s] == table[samples[k, s], y[s]]
    assert reward(torch.arange(C, dtype=dtype)[:, None], y.to(dtype)).shape == (C, 4)


def test_only_the_differences_of_a_quadratic_form_matter() -> None:
    """`U + v 1^T + 1 v^T` with the same U on differences of codes: the same reward."""
    u = spd(0, C) + 5 * torch.eye(C, dtype=torch.float64)
    v = 0.3 * normal(1, C)
    shifted = u + v[:, None] + v[None, :]
    torch.testing.assert_close(
        OneHotReward(C, "full", u).table(), OneHotReward(C, "full", shifted).table()
    )
