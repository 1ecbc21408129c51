"""The synthetic problem behind the paper's figures, and what is learned from it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from mbrl_bilevel.config.reproduce import Fig2Config, Fig3Config
from mbrl_bilevel.experiments.reproduce import fig3
from mbrl_bilevel.experiments.reproduce.methods import METHODS, fit, judge
from mbrl_bilevel.experiments.reproduce.statistics import mean_and_margin, shown
from mbrl_bilevel.experiments.reproduce.synthetic import (
    StandardisedMLP,
    make_data,
    make_model,
    true_mean,
    true_u,
)

CONFIG = Fig2Config()


def fig3_results(seed: int, **settings: Any) -> dict[str, Any]:
    calls: list[None] = []
    config = Fig3Config(seed=seed, **settings)
    outcome = fig3.compute(config, lambda: calls.append(None))
    assert len(calls) == fig3.num_fits(config)
    return outcome.results


def test_training_inputs_repeat_and_held_out_ones_are_their_own() -> None:
    data = make_data(CONFIG, seed=0)
    x, y = data.training
    assert x.shape == y.shape == (1000, 2)
    assert len(x.unique(dim=0)) == 100
    assert torch.equal(x.view(100, 10, 2)[:, 0], x.view(100, 10, 2)[:, 9])
    assert len(y.unique(dim=0)) == 1000
    held_out = data.held_out[0]
    assert len(held_out.unique(dim=0)) == 100
    assert len(torch.cat([x, held_out]).unique(dim=0)) == 200
    assert x.abs().max() <= 5


def test_the_noise_is_the_papers() -> None:
    config = CONFIG.model_copy(update={"num_inputs": 20_000, "num_draws": 1})
    x, y = make_data(config, seed=0).training
    noise = y - true_mean(x)
    assert noise.mean(dim=0) == pytest.approx([0, 0], abs=0.03)
    assert noise.std(dim=0) == pytest.approx([1.25, 1.25], abs=0.03)
    assert x.std(dim=0) == pytest.approx([10 / math.sqrt(12)] * 2, rel=0.02)
    assert true_u(temperature=1.0) == pytest.approx(0.32)


def test_a_seed_gives_the_same_data_and_weights_and_leaves_the_global_seed_alone() -> None:
    weights, targets = [], []
    for seed in (1, 1, 2):
        data = make_data(CONFIG, seed)
        targets.append(data.held_out[1])
        weights.append(make_model(CONFIG, data, seed).last.weight.detach())
    assert torch.equal(targets[0], targets[1])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(targets[0], targets[2])
    assert not torch.equal(weights[0], weights[2])


def test_the_last_layers_parameters_have_the_models_names() -> None:
    data = make_data(CONFIG, seed=0)
    model = StandardisedMLP(data.training, [8], seed=0)
    parameters = dict(model.named_parameters())
    last = model.last_layer()
    assert last.keys() == {"last.weight", "last.bias"}
    assert all(parameters[name] is value for name, value in last.items())


def perfect(x: Tensor) -> Tensor:
    return torch.cat([true_mean(x), torch.full_like(x, math.log(1.25**2))], dim=-1)


def test_the_truth_is_judged_as_perfect() -> None:
    quality = judge(perfect, make_data(CONFIG, 0).held_out[0])
    assert quality.rmse == pytest.approx(1.25)
    assert quality.nll == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 1.25**2))
    assert quality.kl == pytest.approx(0, abs=1e-5)


def test_divergence_is_that_of_torch() -> None:
    x = torch.tensor([[1.0, -2.0]])
    outputs = torch.tensor([[7.5, 3.0, 0.2, -0.4]])
    true = MultivariateNormal(true_mean(x), 1.25**2 * torch.eye(2))
    predicted = MultivariateNormal(outputs[:, :2], torch.diag(outputs[0, 2:].exp()))
    expected = kl_divergence(true, predicted).item()
    assert judge(lambda _: outputs, x).kl == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_methods_learn_the_variances_that_theory_says(temperature: float) -> None:
    """Fixed U: `(lambda/2) U^-1`. Likelihood, held-out variance and learned U: near the truth."""
    data = make_data(CONFIG, seed=0)
    x, y = data.held_out
    marginal = data.training[1].var(dim=0)
    expected = {
        "mse": torch.full((2,), 1.25**2),
        "nll": torch.full((2,), 1.25**2),
        "pg_identity": torch.full((2,), temperature / 2),
        "pg_trace": marginal.mean().expand(2),
        "pg_full": 1 / data.training[1].mT.cov().inverse().diagonal(),
        "learned": torch.full((2,), 1.25**2),
    }
    assert expected.keys() == METHODS.keys()
    for method, variance in expected.items():
        outputs = fit(method, data, CONFIG, temperature, seed=0)(x)
        assert not outputs.requires_grad
        assert (outputs[:, :2] - y).square().mean() < 1.9, method
        found = outputs[:, 2:].mean(dim=0)
        exact = method.startswith("pg_")
        assert found == pytest.approx(variance.log(), abs=0.05 if exact else 0.3), method


def test_an_interval_is_students() -> None:
    mean, margin = mean_and_margin([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert margin == pytest.approx(4.303 / math.sqrt(3))
    assert shown(mean, margin, 1) == "2.0 +- 2.5"
    _, margin = mean_and_margin([0.0, 1.0] * 50)
    assert margin == pytest.approx(1.96 * 0.0502519, rel=1e-3)
    mean, margin = mean_and_margin([0.5])
    assert math.isnan(margin)
    assert shown(mean, margin) == "0.500"


def test_negative_curvature_of_the_whole_model_is_reported() -> None:
    settings = {"solvers": ["cg"], "num_outer_steps": 2, "inner_steps": 2, "cg": {"ridge": 0.0}}
    last, whole = (
        fig3_results(0, all_parameters=all_parameters, **settings)["solvers"]["cg"]
        for all_parameters in (False, True)
    )
    assert last["negative_curvature_steps"] == 0
    assert whole["negative_curvature_steps"] == 2


def test_only_the_ratio_of_reward_and_temperature_matters() -> None:
    found = [
        fig3_results(0, solvers=["functional"], num_outer_steps=4, temperature=temperature)
        for temperature in (1.0, 4.0)
    ]
    one, four = (results["solvers"]["functional"]["u_hat"] for results in found)
    assert four == pytest.approx(4 * one, rel=1e-3)


@pytest.mark.learning
def test_every_solver_finds_the_reward_of_the_residuals() -> None:
    """Within 2% of the optimum for the final residuals; of the coarser solvers within 5%."""
    solvers = fig3_results(seed=11)["solvers"]
    for name, result in solvers.items():
        bound = 0.02 if name in ("functional", "cg") else 0.05
        assert abs(result["relative_error"]) <= bound, name
        assert result["u_hat"] == pytest.approx(0.32, abs=0.08), name
        assert result["negative_curvature_steps"] == 0, name
