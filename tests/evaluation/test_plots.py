from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mbrl_bilevel.evaluation import (
    calibration_curve,
    gaussian_calibration,
    learning_curve,
    save_figure,
    trajectory,
)


def legend_entries(owner: Axes | Figure) -> list[str]:
    legends = owner.legends if isinstance(owner, Figure) else [owner.get_legend()]
    return [text.get_text() for legend in legends if legend for text in legend.get_texts()]


def assert_drawn(figure: Figure, tmp_path: Path) -> None:
    """Saving draws everything; an empty picture would have one colour."""
    path = tmp_path / "plots" / "figure.png"
    save_figure(figure, path)
    picture = imageio.imread(path)
    assert len(np.unique(picture)) > 2
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]


def test_learning_curve(tmp_path: Path) -> None:
    metrics: list[dict[str, Any]] = [
        {"step": 400, "rollout/ep_rew": -5.0, "eval/mean_reward": -4.0},
        {"step": 200, "rollout/ep_rew": -9.0, "model/val_nll": 1.0},
        {"step": 600, "rollout/ep_rew": float("nan")},
        {"step": 800, "rollout/ep_rew": None, "eval/mean_reward": -1.0},
    ]
    figure = learning_curve(metrics)
    (axes,) = figure.axes
    training, evaluation = axes.lines
    np.testing.assert_array_equal(training.get_xydata(), [[200, -9], [400, -5]])
    np.testing.assert_array_equal(evaluation.get_xydata(), [[400, -4], [800, -1]])
    assert legend_entries(axes) == ["training episodes", "evaluation"]
    assert axes.get_xlabel() == "environment steps"
    assert_drawn(figure, tmp_path)


@pytest.mark.parametrize(
    ("metrics", "entries"),
    [([], []), ([{"step": 5, "eval/mean_reward": 1.0}], ["evaluation"])],
)
def test_learning_curve_of_few_points(
    metrics: list[dict[str, Any]], entries: list[str], tmp_path: Path
) -> None:
    figure = learning_curve(metrics)
    assert legend_entries(figure.axes[0]) == entries
    assert_drawn(figure, tmp_path)


def make_trajectory(num_dims: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(11, num_dims)).cumsum(axis=0)
    return real, real + 0.1 * rng.normal(size=(101, 11, num_dims))


def test_trajectory(tmp_path: Path) -> None:
    real, samples = make_trajectory(2)
    figure = trajectory(real, samples, ["angle", "velocity"], interval=0.8)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["angle", "velocity"]
    assert legend_entries(figure) == ["real", "predicted median", "80% of particles"]
    median, line = figure.axes[1].lines
    np.testing.assert_array_equal(line.get_ydata(), real[:, 1])
    np.testing.assert_array_equal(median.get_ydata(), np.median(samples[..., 1], axis=0))
    np.testing.assert_array_equal(line.get_xdata(), np.arange(11))
    (band,) = figure.axes[1].collections
    corners = np.asarray(band.get_paths()[0].vertices)
    np.testing.assert_allclose(corners[:, 1].max(), np.quantile(samples[..., 1], 0.9, axis=0).max())
    assert_drawn(figure, tmp_path)


def test_trajectory_says_how_many_dimensions_it_leaves_out(tmp_path: Path) -> None:
    figure = trajectory(*make_trajectory(17))
    assert len(figure.axes) == 12
    assert figure.axes[11].get_title(loc="left") == "obs[11]"
    assert "5 of 17 dimensions not shown" in figure.get_supxlabel()
    assert_drawn(figure, tmp_path)


def test_trajectory_of_a_diverging_model_has_a_gap(tmp_path: Path) -> None:
    real, samples = make_trajectory(1)
    samples[3, 8:] = np.inf
    figure = trajectory(real, samples)
    median = np.asarray(figure.axes[0].lines[0].get_ydata())
    np.testing.assert_array_equal(np.isnan(median), np.arange(11) >= 8)
    assert_drawn(figure, tmp_path)


def test_trajectory_checks_its_arguments() -> None:
    real, samples = make_trajectory(2)
    with pytest.raises(ValueError, match=r"got \(11, 2\) and \(101, 10, 2\)"):
        trajectory(real, samples[:, :10])
    with pytest.raises(ValueError, match="2 names, got 1"):
        trajectory(real, samples, ["angle"])
    with pytest.raises(ValueError, match=r"interval must be .* got 90"):
        trajectory(real, samples, interval=90)


def test_calibration_curve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(200, 3))
    calibration = gaussian_calibration(0 * target, 0 * target + 1, target)
    figure = calibration_curve(calibration)
    (axes,) = figure.axes
    assert legend_entries(axes) == ["ideal", "one dimension", "all dimensions"]
    assert len(axes.lines) == 1 + 3 + 1
    np.testing.assert_array_equal(
        axes.lines[-1].get_xydata(), np.stack([calibration.expected, calibration.observed], axis=1)
    )
    assert_drawn(figure, tmp_path)


def test_failed_save_leaves_the_former_figure(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"former")

    class Failing(Figure):
        def savefig(self, fname: Any, **kwargs: Any) -> None:  # noqa: ARG002
            Path(fname).write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_figure(Failing(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"former"
