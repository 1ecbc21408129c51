import math

import pytest
import torch
from torch import Tensor

from mbrl_agents.planning.noise import colored_noise


def draw(num_samples: int, horizon: int, size: int, beta: float, seed: int = 0) -> Tensor:
    return colored_noise(
        num_samples, horizon, size, beta, torch.Generator().manual_seed(seed)
    ).double()


@pytest.mark.parametrize("horizon", [1, 2, 3, 8, 15, 20])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 4.0])
def test_variance_is_one_at_every_step_for_odd_and_even_horizons(horizon: int, beta: float) -> None:
    noise = draw(20_000, horizon, 2, beta)
    assert noise.shape == (20_000, horizon, 2)
    # Five standard errors of 20 000 samples.
    torch.testing.assert_close(
        noise.var(dim=0), torch.ones(horizon, 2).double(), atol=0.05, rtol=0.0
    )
    torch.testing.assert_close(
        noise.mean(dim=0), torch.zeros(horizon, 2).double(), atol=0.036, rtol=0.0
    )


@pytest.mark.parametrize("horizon", [64, 65])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.0])
def test_power_falls_with_frequency_to_the_minus_beta(horizon: int, beta: float) -> None:
    noise = draw(4_000, horizon, 1, beta)[..., 0]
    power = torch.fft.rfft(noise, dim=1).abs().square().mean(dim=0)
    frequency = torch.fft.rfftfreq(horizon).double()
    # Frequency zero has none of its own: it takes that of the lowest.
    frequency[0] = frequency[1]
    expected = frequency ** (-beta)
    torch.testing.assert_close(power / power[1], expected / expected[1], rtol=0.15, atol=0.0)

    x, y = frequency[1:].log(), power[1:].log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope.item() == pytest.approx(-beta, abs=0.03)


def test_red_noise_persists_and_white_noise_does_not() -> None:
    def neighbours(beta: float) -> float:
        noise = draw(5_000, 20, 1, beta)[..., 0]
        return (noise[:, 1:] * noise[:, :-1]).mean().item()

    assert abs(neighbours(0.0)) < 0.02
    assert neighbours(2.0) > 0.6


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_samples_and_dimensions_are_independent(beta: float) -> None:
    noise = draw(5_000, 10, 2, beta)
    tolerance = 5 / math.sqrt(5_000)
    assert (noise[..., 0] * noise[..., 1]).mean(dim=0).abs().max() < tolerance
    assert (noise[1:] * noise[:-1]).mean(dim=0).abs().max() < tolerance


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_the_generator_decides(beta: float) -> None:
    first, again, other = (draw(4, 8, 3, beta, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()
