"""Predictions many steps ahead against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.evaluation import OpenLoop, StepFn, open_loop, particle_interval, roll_out


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walk(num_windows: int, num_steps: int, std: float, seed: int) -> tuple[Tensor, ...]:
    """Random walks that actions push: obs `[N, 2]`, actions `[N, K, 1]`, future `[N, K, 2]`."""
    gen = generator(seed)
    obs = torch.randn(num_windows, 2, generator=gen)
    actions = torch.randn(num_windows, num_steps, 1, generator=gen)
    noise = std * torch.randn(num_windows, num_steps, 2, generator=gen)
    return obs, actions, obs[:, None] + (actions + noise).cumsum(dim=1)


def push(std: float) -> StepFn:
    def step(obs: Tensor, action: Tensor, gen: torch.Generator) -> Tensor:
        return obs + action + std * torch.randn(obs.shape, generator=gen)

    return step


def evaluate(data: tuple[Tensor, ...], std: float, **settings: object) -> OpenLoop:
    settings = {"num_particles": 50, "ks": (1, 5, 20, 50), "generator": generator(1), **settings}
    return open_loop(push(std), *data, torch.ones(2), **settings)  # type: ignore[arg-type]


def test_a_perfect_model_makes_no_error() -> None:
    result = evaluate(walk(8, 50, 0.0, 0), 0.0)
    assert list(result.rmse) == [1, 5, 20, 50]
    assert max(result.rmse.values()) < 1e-5
    assert result.num_windows == dict.fromkeys((1, 5, 20, 50), 8)


def test_errors_grow_as_those_of_a_random_walk() -> None:
    data = walk(1000, 20, 0.1, 0)
    result = evaluate(data, 0.0, num_particles=1)
    for k in (1, 5, 20):
        assert result.rmse[k] == pytest.approx(0.1 * math.sqrt(k), rel=0.1)
        torch.testing.assert_close(
            result.rmse_per_dim[k].square().mean().sqrt().item(), result.rmse[k]
        )
    assert 50 not in result.rmse


def test_the_error_of_particles_is_that_of_their_mean() -> None:
    result = evaluate(walk(400, 5, 0.0, 0), 0.3, num_particles=25)
    for k in (1, 5):
        assert result.rmse[k] == pytest.approx(0.3 * math.sqrt(k / 25), rel=0.15)


def test_persistence_is_what_happened() -> None:
    data = walk(50, 5, 0.1, 0)
    result = evaluate(data, 0.1)
    change = data[2][:, 4] - data[0]
    assert result.persistence[5] == pytest.approx(float(change.square().mean().sqrt()))


def test_errors_are_in_normalised_units() -> None:
    data = walk(50, 5, 0.1, 0)
    scale = torch.tensor([0.5, 10.0])
    settings = {"num_particles": 3, "ks": (5,)}
    raw = open_loop(push(0.0), *data, torch.ones(2), generator=generator(), **settings)  # type: ignore[arg-type]
    scaled = open_loop(push(0.0), *data, scale, generator=generator(), **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled.rmse_per_dim[5] * scale, raw.rmse_per_dim[5])
    assert scaled.coverage == raw.coverage


@pytest.mark.parametrize("num_particles", [39, 200])
def test_a_true_model_covers_as_often_as_it_says(num_particles: int) -> None:
    # With few particles, too, where interpolated sample quantiles would cover too little.
    result = evaluate(walk(3000, 5, 0.5, 0), 0.5, num_particles=num_particles, ks=(1, 5))
    for k in (1, 5):
        assert result.coverage[k] == pytest.approx({0.5: 0.5, 0.9: 0.9, 0.95: 0.95}, abs=0.02)


def test_a_model_too_sure_of_itself_covers_too_little() -> None:
    result = evaluate(walk(1000, 5, 0.5, 0), 0.1, ks=(5,))
    assert result.coverage[5][0.9] < 0.4


def test_only_steps_before_the_end_of_an_episode_count() -> None:
    obs, actions, future = walk(6, 20, 0.1, 0)
    num_steps = torch.tensor([20, 20, 5, 5, 4, 1])
    after_the_end = torch.arange(1, 21) > num_steps[:, None]
    future = torch.where(after_the_end[..., None], torch.tensor(1e6), future)
    result = evaluate((obs, actions, future), 0.1, num_steps=num_steps)
    assert result.num_windows == {1: 6, 5: 4, 20: 2}
    assert max(result.rmse.values()) < 10
    short = evaluate((obs, actions, future), 0.1, num_steps=num_steps.clamp(max=5))
    assert list(short.rmse) == [1, 5]


def test_particles_keep_their_place_and_actions_their_order() -> None:
    seen = []

    def step(obs: Tensor, action: Tensor, _: torch.Generator) -> Tensor:
        seen.append(action)
        return obs + torch.arange(3.0)[:, None, None]

    obs, actions = torch.zeros(4, 2), torch.randint(5, (4, 6), generator=generator())
    *_, last = roll_out(step, obs, actions, 3, generator())
    assert last.shape == (3, 4, 2)
    assert last[:, 0, 0].tolist() == [0, 6, 12]
    torch.testing.assert_close(torch.stack(seen, dim=1), actions)


def test_the_same_generator_gives_the_same() -> None:
    data = walk(10, 5, 0.5, 0)
    first, again, other = (
        evaluate(data, 0.5, generator=generator(seed)).rmse for seed in (3, 3, 4)
    )
    assert first == again != other


def test_a_model_that_diverges_has_an_infinite_error_and_covers_nothing() -> None:
    def explode(obs: Tensor, action: Tensor, _: torch.Generator) -> Tensor:
        return obs * 1e30 - obs * 1e30 * action

    data = walk(10, 5, 0.5, 0)
    result = open_loop(
        explode, *data, torch.ones(2), num_particles=40, generator=generator(), ks=(5,)
    )
    assert result.rmse[5] == math.inf
    assert result.coverage[5][0.9] == 0


def test_the_ends_of_an_interval_are_order_statistics() -> None:
    particles = torch.arange(1.0, 20.0).flip(0)[:, None, None]  # P = 19: i is quantile i / 20
    low, high = particle_interval(particles, 0.9)
    torch.testing.assert_close([low.item(), high.item()], [1.0, 19.0])
    low, high = particle_interval(particles, 0.55)
    torch.testing.assert_close([low.item(), high.item()], [4.5, 15.5])
    low, high = particle_interval(particles, 0.99)
    assert [low.item(), high.item()] == [1, 19]


def test_the_report_is_plain() -> None:
    report = evaluate(walk(10, 20, 0.1, 0), 0.1).to_dict()
    assert report["open_loop_windows"] == {"1": 10, "5": 10, "20": 10}
    for key in ("open_loop_rmse", "open_loop_persistence", "open_loop_coverage_90"):
        assert list(report[key]) == ["1", "5", "20"]


def test_what_does_not_fit_is_refused() -> None:
    obs, actions, future = walk(4, 5, 0.1, 0)
    with pytest.raises(ValueError, match=r"shapes do not fit: obs \(4, 2\), actions \(4, 5, 1\)"):
        evaluate((obs, actions, future[:, :4]), 0.1)
    with pytest.raises(ValueError, match="ks must be at least 1"):
        evaluate((obs, actions, future), 0.1, ks=(0, 1))
    with pytest.raises(ValueError, match="levels must be strictly between 0 and 1"):
        evaluate((obs, actions, future), 0.1, levels=(1.0,))
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        evaluate((obs, actions, future), 0.1, num_particles=0)
