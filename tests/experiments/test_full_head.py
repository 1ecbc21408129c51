"""Full predictive covariances: how they are fitted, and what they are judged by."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mbrl_bilevel.config import BilevelConfig, ObjectiveConfig, PGConfig
from mbrl_bilevel.config.fit import FitModelConfig, OpenLoopConfig
from mbrl_bilevel.data import ActionCodec, Transitions
from mbrl_bilevel.data.datasets import Windows
from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.experiments.fit import full_head, predicting
from mbrl_bilevel.experiments.fit.full_head import (
    MAX_COVERAGE,
    FullHead,
    _within_calibration,
    fit_full_head,
)
from mbrl_bilevel.experiments.fit.judging import judge_one_step, judge_open_loop
from mbrl_bilevel.experiments.fit.parts import Parts
from mbrl_bilevel.experiments.fit.predicting import normalised
from mbrl_bilevel.experiments.fit.training import Trained, train_model
from mbrl_bilevel.objectives import MIN_VARIANCE
from mbrl_bilevel.types import Gaussian
from tests.cli.fits import fit, rows, write_npz
from tests.dynamics.cases import BOX, CONFIGS, linear_system

E = 2
MIXING = np.array([[0.3, 0.0], [0.28, 0.05]], np.float32)
"""Of the noise of the next observation: two dimensions, correlation 0.98."""


def correlated(count: int, seed: int) -> Transitions:
    """A linear system with correlated noise."""
    data = linear_system(count, seed)
    noise = np.random.default_rng(seed).standard_normal(data.obs.shape, np.float32)
    next_obs = (0.9 * data.obs + noise @ MIXING.T).astype(np.float32)
    return Transitions(
        data.obs, data.actions, data.rewards, next_obs, data.terminated, data.truncated
    )


WINDOWS = Windows(
    obs=np.zeros((3, 2), np.float32),
    actions=np.zeros((3, 4, 1), np.float32),
    future_obs=np.zeros((3, 4, 2), np.float32),
    num_steps=np.full(3, 4),
)
PARTS = Parts(correlated(300, 0), correlated(400, 1), correlated(350, 2), WINDOWS)


def trained(objective: ObjectiveConfig, **settings: Any) -> Trained:
    config = FitModelConfig.model_validate(
        {"ensemble_size": E, "hidden_sizes": [16], "num_updates": 40, "head": "full"} | settings
    )
    return train_model(objective, config, ActionCodec(BOX), PARTS, 0, lambda *_: None)


def head_of(result: Trained) -> FullHead:
    assert result.head is not None
    return result.head


@torch.no_grad()
def predict(model: DynamicsModel, data: Transitions) -> tuple[Gaussian, Tensor]:
    x, y = normalised(model, data)
    outputs = model.network(x.expand(model.network.ensemble_size, -1, -1))
    return model.objective.predictive(outputs), y


def member_log_probs(result: Trained, data: Transitions, factor: Tensor) -> Tensor:
    """Log densities `[E, N]` under covariances `D^{1/2} F F^T D^{1/2}`."""
    prediction, y = predict(result.model, data)
    std = (0.5 * prediction.log_var).exp().double()
    mean = prediction.mean.double()
    density = MultivariateNormal(mean, scale_tril=std[..., None] * factor[:, None].double())
    log_prob: Tensor = density.log_prob(y)  # type: ignore[no-untyped-call]
    return log_prob


def log_likelihood(result: Trained, factor: Tensor) -> float:
    """Of the mixture on held-out data, per dimension."""
    log_probs = member_log_probs(result, PARTS.held_out, factor)
    return float((torch.logsumexp(log_probs, dim=0) - math.log(E)).mean()) / 2


@pytest.mark.parametrize("name", ["mse", "nll", "beta_nll", "bilevel", "bilevel_state_dependent"])
def test_no_other_matrices_make_held_out_data_more_likely(name: str) -> None:
    """Up to the tolerance of the mixture."""
    result = trained(CONFIGS[name])
    factor = head_of(result).factor
    most = log_likelihood(result, factor)
    generator = torch.Generator().manual_seed(0)
    for size in (0.1, 0.3):
        for _ in range(5):
            change = size * torch.randn(E, 2, 2, generator=generator).tril()
            assert log_likelihood(result, factor @ torch.matrix_exp(change)) < most


@pytest.mark.parametrize("rows_at_a_time", [7, 10_000])
def test_of_one_model_it_is_the_second_moment_of_standardised_residuals(
    rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(CONFIGS["nll"], ensemble_size=1).model
    prediction, y = predict(model, PARTS.held_out)
    z = ((y - prediction.mean) * (-0.5 * prediction.log_var).exp()).double()
    monkeypatch.setattr(predicting, "ROWS_AT_A_TIME", rows_at_a_time)
    factor = fit_full_head(model, PARTS.held_out).factor.double()
    torch.testing.assert_close(factor @ factor.mT, z.mT @ z / len(y), rtol=1e-5, atol=1e-6)


def test_a_mixture_is_more_likely_than_with_each_member_by_itself() -> None:
    result = trained(CONFIGS["nll"], num_updates=15)
    prediction, y = predict(result.model, PARTS.held_out)
    z = ((y - prediction.mean) * (-0.5 * prediction.log_var).exp()).double()
    alone = torch.linalg.cholesky(z.mT @ z / len(y))
    together = head_of(result).factor
    assert log_likelihood(result, together) > log_likelihood(result, alone) + 0.01


def mixture_coverage(factor: Tensor, standardised: Tensor) -> float:
    """Share of residuals within the mixture's central 90% intervals."""
    std = factor.square().sum(dim=-1).sqrt()[:, None]
    quantile = torch.distributions.Normal(0.0, std).cdf(standardised).mean(dim=0)
    return float(((quantile > 0.05) & (quantile < 0.95)).double().mean())


def correlation(factor: Tensor) -> float:
    covariance = factor @ factor.mT
    return float(covariance[0, 1] / covariance.diagonal().prod().sqrt())


def test_calibrated_variances_stay_calibrated_and_correlations_stay() -> None:
    """Residuals with heavy tails, whose second moment is too wide an interval."""
    rng = np.random.default_rng(0)
    heavy = torch.as_tensor(rng.standard_t(2.5, (4000, 2))).expand(E, -1, -1)
    factor = torch.tensor([[[2.0, 0.0], [1.0, 1.5]], [[1.6, 0.0], [-0.5, 2.0]]])
    factor = 1.5 * factor.double()
    assert mixture_coverage(factor, heavy) > MAX_COVERAGE + 0.01
    held = _within_calibration(factor, heavy)
    assert mixture_coverage(held, heavy) == pytest.approx(MAX_COVERAGE, abs=0.001)
    for before, after in zip(factor, held, strict=True):
        assert correlation(after) == pytest.approx(correlation(before))
    narrow = 0.3 * factor
    assert torch.equal(_within_calibration(narrow, heavy), narrow)


def test_other_objectives_keep_the_most_likely_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    monkeypatch.setattr(full_head, "_within_calibration", lambda f, _: held.append(f) or f)
    for name in ("mse", "nll", "beta_nll", "bilevel"):
        trained(CONFIGS[name], num_updates=5)
    assert not held
    trained(CONFIGS["bilevel_state_dependent"], num_updates=5)
    assert len(held) == 1


@pytest.mark.parametrize(
    "objective", [BilevelConfig(reward="full"), PGConfig(precision="full")], ids=["bilevel", "pg"]
)
def test_a_full_inner_solution_is_taken_as_it_is(objective: ObjectiveConfig) -> None:
    result = trained(objective)
    expected = result.model.objective.solution_covariance
    assert expected is not None
    prediction, _ = predict(result.model, PARTS.test)
    factor = head_of(result).scale_tril(prediction.log_var)
    found = factor @ factor.mT
    torch.testing.assert_close(found, expected[:, None].expand_as(found))
    assert abs(expected[:, 0, 1]).min() > 0.1


def test_the_residual_covariance_of_a_learned_full_reward() -> None:
    result = trained(BilevelConfig(reward="full", tails=None))
    mse = result.model.objective.solution_covariance
    prediction, y = predict(result.model, PARTS.held_out)
    error = y - prediction.mean
    torch.testing.assert_close(mse, error.mT @ error / len(y), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows_at_a_time", [50, 10_000])
def test_the_likelihood_is_that_of_the_mixture_of_full_covariances(
    rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = trained(CONFIGS["nll"])
    log_probs = member_log_probs(result, PARTS.test, head_of(result).factor)
    joint = torch.logsumexp(log_probs, dim=0) - math.log(E)
    monkeypatch.setattr(predicting, "ROWS_AT_A_TIME", rows_at_a_time)
    found = judge_one_step(result.model, PARTS.test, result.head)
    assert found["nll"] == pytest.approx(-joint.mean().item() / 2, rel=1e-5)
    diagonal = judge_one_step(result.model, PARTS.test)
    assert found["nll"] < diagonal["nll"] - 0.3
    assert found["rmse"] == diagonal["rmse"]
    volume = diagonal["nll_raw"] - diagonal["nll"]
    assert found["nll_raw"] - found["nll"] == pytest.approx(volume)


def test_intervals_are_those_of_the_recalibrated_variances() -> None:
    """A policy gradient with U = I claims a variance of half the temperature."""
    result = trained(PGConfig(temperature=10.0))
    found = judge_one_step(result.model, PARTS.test, result.head)
    diagonal = judge_one_step(result.model, PARTS.test)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.05)
    assert abs(diagonal["coverage_90"] - 0.9) > 0.09


def test_open_loop_noise_is_correlated() -> None:
    """One step from the same observation: the particles' covariance is the predicted one."""
    result = trained(CONFIGS["mse"])
    model, head = result.model, head_of(result)
    generator = torch.Generator().manual_seed(0)
    particles, members = 40_000, torch.arange(40_000) % E
    noise = head.correlate(torch.randn(particles, 1, 2, generator=generator), members)
    zero = torch.zeros(particles, 1, 2), torch.zeros(particles, 1, 1)
    next_obs, _ = model.members(members).step(*zero, noise)
    prediction, _ = predict(model, PARTS.test)
    scale_tril = head.scale_tril(prediction.log_var)[:, 0]
    scale_tril = model.target_normalizer.std[:, None] * scale_tril
    for member in range(E):
        found = torch.cov(next_obs[member::E, 0].T)
        expected = scale_tril[member] @ scale_tril[member].T
        scale = expected.diagonal().sqrt()
        scale = scale[:, None] * scale
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=0.03)


def test_open_loop_predictions_use_it() -> None:
    result = trained(PGConfig(), num_updates=200)
    config = OpenLoopConfig(ks=[1, 4], num_particles=50)

    def judged(head: FullHead | None) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        return judge_open_loop(result.model, WINDOWS, config, generator, None, head)

    plain = FullHead(torch.eye(2).expand(E, 2, 2))
    assert judged(plain) == judged(None)
    assert judged(result.head)["open_loop_rmse"] != judged(None)["open_loop_rmse"]


def test_dimensions_that_repeat_or_stand_still_stay_finite() -> None:
    def with_copies(data: Transitions) -> Transitions:
        obs, next_obs = (
            np.concatenate([o[:, :1], o[:, :1], np.ones_like(o[:, :1])], axis=1)
            for o in (data.obs, data.next_obs)
        )
        return Transitions(
            obs, data.actions, data.rewards, next_obs, data.terminated, data.truncated
        )

    training, held_out, test = map(with_copies, (PARTS.training, PARTS.held_out, PARTS.test))
    parts = Parts(training, held_out, test, WINDOWS)
    config = FitModelConfig(ensemble_size=E, hidden_sizes=[8], num_updates=10, head="full")
    for name in ("mse", "pg", "bilevel_full"):
        model = train_model(CONFIGS[name], config, ActionCodec(BOX), parts, 0, lambda *_: None)
        assert math.isfinite(judge_one_step(model.model, parts.test, model.head)["nll"])


def test_perfect_predictions_keep_the_least_variance() -> None:
    result = trained(CONFIGS["mse"])
    for parameter in result.model.network.parameters():
        torch.nn.init.zeros_(parameter)
    still = PARTS.held_out
    result.model.target_normalizer.mean.zero_()
    still = Transitions(
        still.obs, still.actions, still.rewards, still.obs, still.terminated, still.truncated
    )
    head = fit_full_head(result.model, still)
    prediction, _ = predict(result.model, still)
    variance = head.log_var(prediction.log_var).exp()
    torch.testing.assert_close(variance, torch.full_like(variance, MIN_VARIANCE))


def test_a_diagonal_head_is_the_default_and_has_none() -> None:
    assert FitModelConfig().head == "diagonal"
    assert trained(CONFIGS["mse"], head="diagonal").head is None


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    points = write_npz(tmp_path / "points.npz")
    words = ("objective=[pg,{name: bilevel, reward: full}]", "seeds=1", "model.head=full")
    assert fit(points, tmp_path / "run", *words) == 0
    assert "head: full" in (tmp_path / "run" / "config.yaml").read_text()
    found = rows(tmp_path / "run")
    assert [row["objective"] for row in found] == ["pg", "bilevel"]
    assert all(math.isfinite(row["nll"]) for row in found)
