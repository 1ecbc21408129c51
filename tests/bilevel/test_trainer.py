"""`BilevelTrainer` on problems small enough to know the answer."""

import math

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.bilevel import OuterStep, make_solver
from mbrl_bilevel.estimators import Dice, Estimator, Reparameterised, ScoreFunction
from mbrl_bilevel.rewards import MahalanobisReward, OneHotReward, StateDependentReward
from tests.bilevel.trainer_cases import (
    INNER_DATA,
    OUTER_DATA,
    Affine,
    Data,
    gradient_descent,
    learned_u,
    make_trainer,
    optimal_u,
)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_learns_the_u_that_the_held_out_residuals_ask_for(temperature: float) -> None:
    trainer = make_trainer(temperature=temperature, inner_steps=30, **gradient_descent(1.0))
    fit = trainer.fit(INNER_DATA, OUTER_DATA, 20)
    assert learned_u(trainer) == pytest.approx(
        optimal_u(trainer.model, OUTER_DATA, temperature), rel=0.02
    )
    assert fit.outer_loss < fit.initial_outer_loss
    assert fit.outer_loss == pytest.approx(fit.best_outer_loss, abs=1e-3)
    assert len(fit.history) == 20
    assert not fit.stopped_early


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        ("functional", {}),
        ("cg", {"max_steps": 10}),
        ("dense", {}),
        ("nystrom", {"rank": 3}),
        ("neumann", {"num_terms": 30}),
        ("unrolled", {"num_steps": 20, "lr": 0.1}),
    ],
)
def test_every_solver_leads_there(solver: str, settings: dict[str, float]) -> None:
    trainer = make_trainer(solver=make_solver(solver, **settings), **gradient_descent(1.0))
    trainer.fit(INNER_DATA, OUTER_DATA, 20)
    assert learned_u(trainer) == pytest.approx(optimal_u(trainer.model, OUTER_DATA), rel=0.05)


@pytest.mark.parametrize(
    ("estimator", "solver"),
    [
        (Reparameterised(8), "cg"),
        (Dice(8), "cg"),
        (Dice(8), "functional"),
        (ScoreFunction(8), "functional"),
        (ScoreFunction(8, clip=0.5), "functional"),
    ],
)
def test_sampled_estimators_lead_there(estimator: Estimator, solver: str) -> None:
    trainer = make_trainer(estimator=estimator, solver=solver, inner_lr=0.02)
    trainer.fit(INNER_DATA, OUTER_DATA, 40)
    assert learned_u(trainer) == pytest.approx(optimal_u(trainer.model, OUTER_DATA), rel=0.2)


def test_a_state_dependent_u_learns_in_batches() -> None:
    reward = StateDependentReward(1, 1, hidden_sizes=(8,)).double()
    fit = make_trainer(reward=reward, batch_size=50, outer_lr=0.03).fit(INNER_DATA, OUTER_DATA, 30)
    assert fit.outer_loss < fit.history[0].outer_loss - 0.05


def test_a_reward_without_learned_parameters_trains_the_model() -> None:
    reward = MahalanobisReward(1, initial=2.0).double().requires_grad_(False)
    trainer = make_trainer(reward=reward, inner_steps=50, final_inner_steps=300)
    fit = trainer.fit(INNER_DATA, OUTER_DATA, 5)
    assert isinstance(trainer.model, Affine)
    assert trainer.model.log_var.exp().item() == pytest.approx(0.25, rel=0.01)  # lambda / (2 u)
    assert fit.history[0].grad == {}
    assert fit.history[0].hypergradient_norm == 0
    assert fit.history[0].stationarity > 0


def test_members_of_an_ensemble_learn_a_reward_each() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList([Affine(), Affine()])

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([member(x) for member in self.members])

    model = Pair()
    first = model.members[0]
    assert isinstance(first, Affine)
    first.mean.bias.data.fill_(2.0)  # off by 1, for good
    first.mean.requires_grad_(False)
    reward = MahalanobisReward(1, num_members=2).double()
    make_trainer(model, reward, **gradient_descent(2.0)).fit(INNER_DATA, OUTER_DATA, 20)
    u = reward.log_u.exp().detach().flatten()
    expected = [optimal_u(member, OUTER_DATA) for member in model.members]
    assert u.tolist() == pytest.approx(expected, rel=0.03)


def test_classes_by_a_one_hot_reward() -> None:
    generator = torch.Generator().manual_seed(0)

    def data(num: int) -> Data:
        x = torch.randn(num, 2, generator=generator)
        return x, (x[:, 0] + 0.7 * torch.randn(num, generator=generator) > 0).long()

    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    trainer = make_trainer(model, OneHotReward(2, initial=0.2))
    fit = trainer.fit(data(300), data(300), 40)
    assert fit.initial_outer_loss == pytest.approx(math.log(2), abs=0.4)
    assert fit.outer_loss < fit.history[0].outer_loss - 0.05
    assert fit.outer_loss < 0.5


def test_an_outer_objective_of_ones_own() -> None:
    def outer_objective(inner_params: dict[str, Tensor], outer_params: dict[str, Tensor]) -> Tensor:
        del outer_params
        return (inner_params["log_var"] - math.log(0.1)).square().sum()

    trainer = make_trainer(solver="cg", outer_objective=outer_objective, **gradient_descent(0.2))
    fit = trainer.fit(INNER_DATA, None, 20)
    assert learned_u(trainer) == pytest.approx(5.0, rel=0.03)  # lambda / (2 u) = 0.1
    assert fit.outer_loss < 1e-3


class Saddle(nn.Module):
    """A mean `a b x`, with a saddle at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.full((1,), 1e-3, dtype=torch.float64))
        self.b = nn.Parameter(torch.full((1,), 1e-3, dtype=torch.float64))
        self.log_var = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a * self.b * x, self.log_var.expand_as(x)], dim=-1)


def test_an_indefinite_hessian_is_flagged_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[OuterStep] = []
    trainer = make_trainer(Saddle(), solver="dense", inner_lr=1e-6, final_inner_steps=0)
    trainer.fit(INNER_DATA, OUTER_DATA, 1, steps.append)
    assert steps[0].negative_curvature
    assert steps[0].metrics()["bilevel/negative_curvature"] == 1.0
    assert "non-positive curvature" in caplog.text
