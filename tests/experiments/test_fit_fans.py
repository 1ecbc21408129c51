"""Fans of a fit: what is kept of the particles, and how it is drawn."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from mbrl_bilevel.data import Transitions
from mbrl_bilevel.data.datasets import Windows
from mbrl_bilevel.errors import MBRLError
from mbrl_bilevel.evaluation import open_loop, particle_interval, save_figure
from mbrl_bilevel.experiments.fit.fans import (
    Fan,
    FanRecorder,
    liveliest_dims,
    load_fan,
    save_fan,
)
from mbrl_bilevel.experiments.fit.fans_plot import draw_fans

NUM_PARTICLES = 40
DIMS = np.array([0, 2])


def make_windows(num_steps: tuple[int, ...] = (6, 6)) -> Windows:
    """Random walks of three dimensions."""
    rng = np.random.default_rng(0)
    path = rng.normal(size=(len(num_steps), 7, 3)).cumsum(axis=1).astype(np.float32)
    return Windows(
        obs=path[:, 0],
        actions=rng.uniform(-1, 1, (len(num_steps), 6, 1)).astype(np.float32),
        future_obs=path[:, 1:],
        num_steps=np.array(num_steps),
    )


def drift(obs: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
    return obs + action + 0.3 * torch.randn(obs.shape, generator=generator)


def roll(windows: Windows, recorder: FanRecorder | None) -> dict[str, object]:
    return open_loop(
        drift if recorder is None else recorder.watch(drift),
        torch.as_tensor(windows.obs),
        torch.as_tensor(windows.actions),
        torch.as_tensor(windows.future_obs),
        torch.ones(3),
        num_particles=NUM_PARTICLES,
        generator=torch.Generator().manual_seed(1),
        ks=(1, 6),
    ).to_dict()


def make_fan(windows: Windows) -> Fan:
    recorder = FanRecorder(windows, DIMS)
    roll(windows, recorder)
    return recorder.fan()


def test_a_fan_holds_the_quantiles_of_the_particles_that_are_judged() -> None:
    windows = make_windows()
    fan = make_fan(windows)
    np.testing.assert_array_equal(fan.recorded[0], windows.obs[0, DIMS])
    np.testing.assert_array_equal(fan.recorded[1:], windows.future_obs[0][:, DIMS])

    gen = torch.Generator().manual_seed(1)
    particles = torch.as_tensor(windows.obs).expand(NUM_PARTICLES, -1, -1)
    for k in range(6):
        particles = drift(particles, torch.as_tensor(windows.actions[:, k]), gen)
        kept = particles[:, 0][:, DIMS]
        for level, low, high in ((0.5, fan.low_50, fan.high_50), (0.9, fan.low_90, fan.high_90)):
            expected = particle_interval(kept, level)
            np.testing.assert_allclose(low[k + 1], expected[0], rtol=1e-6)
            np.testing.assert_allclose(high[k + 1], expected[1], rtol=1e-6)
        np.testing.assert_allclose(fan.median[k + 1], np.median(kept, axis=0), rtol=1e-5)
    for name in ("median", "low_50", "high_50", "low_90", "high_90"):
        np.testing.assert_array_equal(getattr(fan, name)[0], fan.recorded[0])
    assert (fan.high_90[-1] - fan.low_90[-1] > fan.high_50[-1] - fan.low_50[-1]).all()


def test_being_watched_changes_nothing() -> None:
    windows = make_windows()
    assert roll(windows, FanRecorder(windows, DIMS)) == roll(windows, None)


def test_a_fan_ends_with_its_episode() -> None:
    assert make_fan(make_windows((4, 6))).recorded.shape == (5, 2)
    assert make_fan(make_windows((4, 6))).high_90.shape == (5, 2)


@pytest.mark.parametrize(("num_dims", "expected"), [(2, [0, 1]), (6, [1, 3, 4, 5])])
def test_dimensions_are_those_that_change_most(num_dims: int, expected: list[int]) -> None:
    scales = np.array([0.1, 3.0, 0.2, 1.0, 5.0, 2.0])[:num_dims]
    changes = np.random.default_rng(0).normal(size=(100, num_dims)) * scales
    # A change that is always the same is none to predict.
    obs, next_obs = np.zeros((100, num_dims)), changes + 100 * (scales == 0.2)
    test = Transitions(obs, np.zeros((100, 1)), np.zeros(100), next_obs, *np.zeros((2, 100), bool))  # type: ignore[arg-type]
    assert liveliest_dims(test).tolist() == expected


def test_a_fan_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert load_fan(tmp_path) is None
    fan = make_fan(make_windows())
    save_fan(fan, tmp_path)
    found = load_fan(tmp_path)
    assert found is not None
    for field in fields(Fan):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(fan, field.name))
    path = tmp_path / "fans.npz"
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MBRLError, match=r"fans\.npz is damaged \(.*delete it"):
        load_fan(tmp_path)


def test_the_picture_has_a_row_for_each_dimension_and_a_column_for_each_objective(
    tmp_path: Path,
) -> None:
    windows = make_windows()
    fans = {"mse": make_fan(windows), "nll": make_fan(windows)}
    figure = draw_fans(fans, {"mse": "#112233", "nll": "#445566"}, seed=3)
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["mse", "nll", "", ""]
    assert [axes.get_ylabel() for axes in panels] == ["obs[0]", "", "obs[2]", ""]
    assert "seed 3" in figure.get_supxlabel()
    for i, axes in enumerate(panels):
        median, recorded = axes.lines
        fan = fans["nll" if i % 2 else "mse"]
        np.testing.assert_array_equal(np.asarray(recorded.get_ydata()), fan.recorded[:, i // 2])
        np.testing.assert_array_equal(np.asarray(median.get_ydata()), fan.median[:, i // 2])
        assert to_hex(median.get_color()) == ("#445566" if i % 2 else "#112233")
        assert len(axes.collections) == 2
    save_figure(figure, tmp_path / "fans.png")


def test_particles_that_diverge_do_not_hide_the_record(tmp_path: Path) -> None:
    fan = make_fan(make_windows())
    fan.high_90[3:] = 1e30
    fan.median[4:] = np.inf
    fan.low_50[4:] = np.nan
    figure = draw_fans({"mse": fan}, {"mse": "#112233"}, seed=0)
    span = np.ptp(fan.recorded[:, 0])
    low, high = figure.axes[0].get_ylim()
    assert high < fan.recorded[:, 0].max() + 0.7 * span
    assert low < fan.recorded[:, 0].min()
    save_figure(figure, tmp_path / "fans.png")
