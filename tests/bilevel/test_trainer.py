"""`BilevelTrainer` on problems small enough to know the answer."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mbrl_bilevel.bilevel import BilevelTrainer, OuterStep, make_solver
from mbrl_bilevel.errors import ConfigError, MBRLError
from mbrl_bilevel.estimators import Dice, Estimator, Reparameterised, ScoreFunction
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import (
    MahalanobisReward,
    NeuralReward,
    OneHotReward,
    Reward,
    StateDependentReward,
)

Data = tuple[Tensor, Tensor]
NOISE = 0.5


def make_data(num: int, seed: int, size: int = 1) -> Data:
    """`y = 2 x + 1 + NOISE eps` for every dimension."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return x, 2 * x + 1 + NOISE * torch.randn(num, size, generator=generator, dtype=torch.float64)


INNER_DATA = make_data(100, 0)
OUTER_DATA = make_data(100, 1)


class Affine(nn.Module):
    """A mean affine in x, and one log-variance for all x."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.mean = nn.Linear(size, size, dtype=torch.float64)
        self.log_var = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        with torch.no_grad():
            self.mean.weight.copy_(2 * torch.eye(size))
            self.mean.bias.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=-1)


def make_trainer(
    model: nn.Module | None = None, reward: Reward | None = None, **settings: Any
) -> BilevelTrainer:
    defaults = {"inner_steps": 10, "inner_lr": 0.05, "outer_lr": 0.1, "initial_inner_steps": 20}
    return BilevelTrainer(
        Affine() if model is None else model,
        MahalanobisReward(1).double() if reward is None else reward,
        **{**defaults, **settings},
    )


def gradient_descent(lr: float) -> dict[str, Any]:
    return {"outer_optimizer": lambda params: torch.optim.SGD(params, lr)}


def optimal_u(model: nn.Module, data: Data, temperature: float = 1.0) -> float:
    with torch.no_grad():
        residual = data[1] - model(data[0])[..., : data[1].shape[-1]]
    return temperature / (2 * residual.square().mean().item())


def learned_u(trainer: BilevelTrainer) -> float:
    assert isinstance(trainer.reward, MahalanobisReward)
    return trainer.reward.log_u.exp().mean().item()


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


def test_samples_change_between_inner_steps_and_not_within_a_hypergradient() -> None:
    seeds: list[int] = []

    class Spy(Reparameterised):
        def draw(self, head: Any, z: Tensor) -> Tensor:
            seeds.append(self.seed)
            return super().draw(head, z)

    solver = make_solver("unrolled", num_steps=5, lr=0.01)  # evaluates the inner loss 5 + 1 times
    trainer = make_trainer(estimator=Spy(4), solver=solver, inner_steps=3)
    trainer.fit(INNER_DATA, OUTER_DATA, 2, lambda step: seeds.clear() if step.step == 0 else None)
    assert len(set(seeds[:3])) == 3
    assert len(set(seeds[3:9])) == 1


def test_ppo_clips_to_the_model_at_the_start_of_a_block() -> None:
    behaviours: list[Tensor | None] = []

    class Spy(ScoreFunction):
        def expected_reward(self, *args: Any, **kwargs: Any) -> Tensor:
            behaviours.append(kwargs.get("behaviour", args[5] if len(args) > 5 else None))
            return super().expected_reward(*args, **kwargs)

    model = Affine()
    start = model(INNER_DATA[0]).detach()
    trainer = make_trainer(model, estimator=Spy(4, clip=0.2), inner_steps=3, initial_inner_steps=0)
    blocks: list[list[Tensor]] = []

    def end_block(_: OuterStep) -> None:
        blocks.append([b for b in behaviours if b is not None])
        behaviours.clear()

    trainer.fit(INNER_DATA, OUTER_DATA, 2, end_block)
    first, second = blocks
    assert len(first) == len(second) == 3
    assert all(torch.equal(b, start) for b in first)
    assert all(torch.equal(b, second[0]) for b in second)
    assert not torch.equal(second[0], start)


def test_how_the_inner_problem_is_solved_does_not_change_what_is_differentiated() -> None:
    """The natural gradient preconditions inner steps only; there are none before this one."""
    grads = []
    for natural_gradient in (0.0, 1.0):
        steps: list[OuterStep] = []
        trainer = make_trainer(
            solver=make_solver("unrolled", num_steps=5, lr=0.05),
            inner_steps=0,
            initial_inner_steps=0,
            natural_gradient=natural_gradient,
        )
        trainer.fit(INNER_DATA, OUTER_DATA, 1, steps.append)
        grads.append(steps[0].grad["log_u"])
    assert torch.equal(*grads)


def test_the_natural_gradient_reaches_the_model() -> None:
    models = [Affine(), Affine()]
    for model, natural_gradient in zip(models, (0.0, 1.0), strict=True):
        model.log_var.data.fill_(-2.0)
        make_trainer(
            model,
            natural_gradient=natural_gradient,
            inner_optimizer=lambda params: torch.optim.SGD(params, 1e-3),
            inner_steps=1,
            initial_inner_steps=0,
            final_inner_steps=0,
        ).fit(INNER_DATA, OUTER_DATA, 1)
    assert not torch.allclose(models[0].mean.bias, models[1].mean.bias, atol=1e-6, rtol=0)


def test_the_unrolled_solver_moves_the_model() -> None:
    model = Affine()
    model.mean.bias.data.fill_(0.0)
    trainer = make_trainer(
        model,
        solver=make_solver("unrolled", num_steps=20, lr=0.1),
        inner_steps=0,
        initial_inner_steps=0,
        final_inner_steps=0,
    )
    trainer.fit(INNER_DATA, OUTER_DATA, 20)
    assert model.mean.bias.item() == pytest.approx(1.0, abs=0.1)


def test_both_optimisers_and_their_state_are_kept() -> None:
    made: list[Optimizer] = []

    def factory(params: list[nn.Parameter]) -> Optimizer:
        made.append(torch.optim.Adam(params, 0.01))
        return made[-1]

    trainer = make_trainer(
        inner_optimizer=factory, outer_optimizer=factory, inner_steps=7, final_inner_steps=5
    )
    trainer.fit(INNER_DATA, OUTER_DATA, 3)
    inner, outer = made
    # The start, 3 blocks, one after the last update, and the end.
    assert {int(state["step"]) for state in inner.state.values()} == {20 + 4 * 7 + 5}
    assert {int(state["step"]) for state in outer.state.values()} == {3}


def test_schedules_are_stepped_with_their_optimisers() -> None:
    schedules: list[LRScheduler] = []

    def schedule(optimizer: Optimizer) -> LRScheduler:
        schedules.append(LambdaLR(optimizer, lambda step: 0.9**step))
        return schedules[-1]

    trainer = make_trainer(inner_schedule=schedule, outer_schedule=schedule, inner_steps=7)
    trainer.fit(INNER_DATA, OUTER_DATA, 3)
    assert [schedule.last_epoch for schedule in schedules] == [3 * 7, 3]


def test_the_inner_problem_is_solved_again_at_the_end() -> None:
    norms = []
    for final_inner_steps in (0, 300):
        trainer = make_trainer(inner_steps=5, final_inner_steps=final_inner_steps)
        norms.append(trainer.fit(INNER_DATA, OUTER_DATA, 5).stationarity)
    assert norms[1] < 0.1 * norms[0]


def far_too_large_steps(**settings: Any) -> BilevelTrainer:
    return make_trainer(inner_steps=100, final_inner_steps=0, **gradient_descent(50.0), **settings)


def test_the_best_pair_is_kept() -> None:
    trainer = far_too_large_steps(patience=2)
    steps: list[OuterStep] = []
    fit = trainer.fit(INNER_DATA, OUTER_DATA, 50, steps.append)
    assert fit.stopped_early
    assert fit.best_step == min(range(len(steps)), key=lambda i: steps[i].outer_loss)
    assert len(fit.history) == fit.best_step + 1 + 2
    best = steps[fit.best_step]
    assert fit.best_outer_loss == best.outer_loss
    assert fit.outer_loss == pytest.approx(
        best.outer_loss, abs=1e-12
    )  # the weights that go with it
    assert torch.equal(trainer.reward.outer_params()["log_u"], best.outer_params["log_u"])


def test_without_patience_the_last_pair_is_kept() -> None:
    trainer = far_too_large_steps()
    fit = trainer.fit(INNER_DATA, OUTER_DATA, 4)
    assert len(fit.history) == 4
    assert fit.best_step < 4
    assert fit.outer_loss > fit.best_outer_loss


def test_an_interruption_leaves_the_best_pair() -> None:
    trainer = far_too_large_steps()  # and without patience, which would go back in any case
    steps: list[OuterStep] = []

    def interrupt(step: OuterStep) -> None:
        steps.append(step)
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(INNER_DATA, OUTER_DATA, 50, interrupt)
    best = min(steps, key=lambda step: step.outer_loss)
    assert best.step < 2
    assert torch.equal(trainer.reward.outer_params()["log_u"], best.outer_params["log_u"])
    with torch.no_grad():
        x, y = OUTER_DATA
        nll = -trainer.head.log_prob(trainer.model(x), y).mean().item()
    assert nll == pytest.approx(best.outer_loss, abs=1e-12)


@pytest.mark.parametrize("patience", [None, 5])
def test_the_last_update_counts(patience: int | None) -> None:
    trainer = make_trainer(patience=patience, initial_inner_steps=200, inner_steps=50)
    fit = trainer.fit(INNER_DATA, OUTER_DATA, 1)
    assert fit.best_step == 1
    assert learned_u(trainer) == pytest.approx(math.exp(0.1), rel=0.01)  # one step of Adam


def test_what_does_not_require_a_gradient_stays() -> None:
    model = Affine()
    model.mean.bias.data.fill_(0.7)
    model.mean.bias.requires_grad_(False)
    make_trainer(model).fit(INNER_DATA, OUTER_DATA, 3)
    assert model.mean.bias.item() == 0.7
    assert all(parameter.grad is None for parameter in model.parameters())


class Noisy(nn.Module):
    """Batch normalisation, dropout and a part that is kept in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Dropout(0.9).eval()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(1, dtype=torch.float64), nn.Dropout(0.5), Affine()
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(self.frozen(x))
        return outputs


def test_trains_in_the_models_mode_and_judges_in_evaluation_mode() -> None:
    model = Noisy()
    trainer = make_trainer(model, final_inner_steps=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fit = trainer.fit(INNER_DATA, OUTER_DATA, 5)
    assert model.layers.training
    assert not model.frozen.training
    norm = model.layers[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == 20 + 6 * 10
    model.eval()
    with torch.no_grad():
        nll = -trainer.head.log_prob(model(OUTER_DATA[0]), OUTER_DATA[1]).mean().item()
    assert math.isfinite(fit.outer_loss)
    assert nll == pytest.approx(fit.outer_loss, abs=1e-12)


def test_same_seed_same_result() -> None:
    results = []
    for seed in (0, 0, 1):
        trainer = make_trainer(batch_size=32, seed=seed)
        trainer.fit(INNER_DATA, OUTER_DATA, 3)
        results.append(trainer.model(INNER_DATA[0]).detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_batches_are_of_the_size_asked_for_and_cover_the_data() -> None:
    seen: list[Tensor] = []

    class Spy(Affine):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x)
            return super().forward(x)

    make_trainer(Spy(), batch_size=50, inner_steps=4, initial_inner_steps=0).fit(
        INNER_DATA, OUTER_DATA, 1
    )
    assert all(len(x) == 50 for x in seen)
    assert torch.equal(torch.cat(seen[:2]).sort(dim=0).values, INNER_DATA[0].sort(dim=0).values)


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


def test_every_step_can_be_logged() -> None:
    steps: list[OuterStep] = []
    make_trainer().fit(INNER_DATA, OUTER_DATA, 2, steps.append)
    assert [step.step for step in steps] == [0, 1]
    metrics = steps[1].metrics()
    assert set(metrics) == {
        "bilevel/outer_loss",
        "bilevel/hypergradient_norm",
        "bilevel/stationarity",
        "bilevel/solver_residual",
        "bilevel/num_hvps",
        "bilevel/negative_curvature",
    }
    assert metrics["bilevel/hypergradient_norm"] == pytest.approx(steps[1].grad["log_u"].norm())
    assert all(math.isfinite(value) for value in metrics.values())


def test_what_was_not_measured_is_not_logged() -> None:
    steps: list[OuterStep] = []
    make_trainer(solver=make_solver("unrolled", num_steps=2)).fit(
        INNER_DATA, OUTER_DATA, 1, steps.append
    )
    assert "bilevel/solver_residual" not in steps[0].metrics()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0; it must be positive"),
        ({"temperature": -1.0}, "temperature=-1.0; it must be positive"),
        ({"inner_steps": 0}, "inner_steps=0; it must be an integer of at least 1"),
        ({"inner_lr": -1e-3}, "inner_lr=-0.001; it must be positive"),
        ({"outer_lr": math.nan}, "outer_lr=nan; it must be positive"),
        ({"batch_size": 0}, "batch_size=0; it must be an integer of at least 1"),
        ({"patience": 0}, "patience=0; it must be an integer of at least 1"),
        ({"final_inner_steps": -1}, "final_inner_steps=-1; it must be an integer of at least 0"),
        ({"seed": -1}, "seed=-1; it must be an integer of at least 0"),
        ({"natural_gradient": 1.5}, r"natural_gradient=1.5; it must lie in \[0, 1\]"),
        ({"solver": "cgg"}, "unknown solver 'cgg'; did you mean 'cg'"),
        ({"solver": "closed_form"}, "solver 'closed_form' needs a formula"),
        ({"estimator": ScoreFunction(), "solver": "cg"}, "second derivatives are wrong"),
        ({"estimator": ScoreFunction(), "solver": "unrolled"}, "second derivatives are wrong"),
        ({"reward": NeuralReward(1, 1)}, "'functional' cannot read .* NeuralReward; use 'cg'"),
        ({"outer_objective": lambda i, _: i["log_var"].sum()}, "of your own use 'cg'"),
        ({"reward": OneHotReward(2), "natural_gradient": 0.5}, "has no natural gradient"),
        ({"head": DiagonalGaussianHead(2)}, "the reward is for 1 dimensions, the head has 2"),
        ({"reward": Reward()}, "reward Reward has no target_size"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(**settings)


def test_a_fixed_u_must_be_positive_definite() -> None:
    with pytest.raises(ConfigError, match="U is not positive definite: its smallest eigenvalue"):
        MahalanobisReward(2, "full", initial=torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


def with_nan(values: Tensor, row: int = 3) -> Tensor:
    spoilt = values.clone()
    spoilt[row] = math.nan
    return spoilt


X, Y = INNER_DATA


@pytest.mark.parametrize(
    ("inner_data", "outer_data", "message"),
    [
        (INNER_DATA, (X[:0], Y[:0]), "outer_data is empty"),
        ((X[:0], Y[:0]), OUTER_DATA, "inner_data is empty"),
        ((X, Y[:-1]), OUTER_DATA, "inner_data holds 100 inputs but 99 targets"),
        (INNER_DATA, (X, torch.cat([Y, Y], -1)), r"outer_data: the targets .* needs \[\.\.\., 1\]"),
        ((X, with_nan(Y)), OUTER_DATA, r"inner_data: the targets hold nan.*\(1 values; row 3\)"),
        ((with_nan(X), Y), OUTER_DATA, r"inner_data: the inputs hold nan.*\(1 values; row 3\)"),
        (INNER_DATA, (X, with_nan(Y)), "outer_data: the targets hold nan"),
        ((X.float(), Y.float()), OUTER_DATA, "share one dtype; found torch.float64 .*float32"),
        ((X, Y.long()), OUTER_DATA, "needs floating-point"),
    ],
)
def test_unfit_data(inner_data: Data, outer_data: Data, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(inner_data, outer_data, 1)


class Constant(nn.Module):
    """Returns the same outputs whatever the inputs."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        del x
        return self.outputs


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(1, 3).double(), r"outputs have shape \[2, 3\]; .* needs \[\.\.\., 2\]"),
        (Constant(2), r"outputs have shape \[2\] for 2 inputs; they must be \[\.\.\., 2, 2\]"),
        (nn.Linear(1, 2), r"share one dtype; .*torch.float32 \(the model's weight\)"),
        (nn.Identity(), "no parameter that requires a gradient"),
    ],
)
def test_unfit_models(model: nn.Module, message: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=message):
        make_trainer(model).fit(INNER_DATA, OUTER_DATA, 1)


def test_an_unused_parameter_is_named_before_any_training() -> None:
    model = Affine()
    model.forgotten = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    before = model.mean.bias.item()
    with pytest.raises(ValueError, match=r"do not depend on its parameters \['forgotten'\]"):
        make_trainer(model).fit(INNER_DATA, OUTER_DATA, 1)
    assert model.mean.bias.item() == before


def test_a_model_too_large_for_the_dense_solver_is_named_before_any_training() -> None:
    model = nn.Linear(5001, 2).double()
    data = torch.zeros(2, 5001, dtype=torch.float64), Y[:2]
    with pytest.raises(ConfigError, match="at most 10000 parameters, and the model has 10004"):
        make_trainer(model, solver="dense").fit(data, data, 1)


def test_reward_of_another_dtype() -> None:
    with pytest.raises(ValueError, match=r"torch.float32 \(the reward's log_u\)"):
        make_trainer(reward=MahalanobisReward(1)).fit(INNER_DATA, OUTER_DATA, 1)


@pytest.mark.parametrize(
    "outer_data",
    [
        INNER_DATA,
        (X.clone(), Y.clone()),
        (torch.cat([X[:20], OUTER_DATA[0]]), torch.cat([Y[:20], OUTER_DATA[1]])),
    ],
    ids=["same tensors", "equal contents", "overlapping rows"],
)
def test_outer_data_must_be_held_out(outer_data: Data) -> None:
    trainer = make_trainer(inner_steps=1, final_inner_steps=0)
    with pytest.warns(UserWarning, match=r"not held out: \d+ of its \d+ rows .* without bound"):
        trainer.fit(INNER_DATA, outer_data, 1)


def test_a_few_rows_in_common_are_no_reason_to_warn() -> None:
    outer_data = torch.cat([X[:5], OUTER_DATA[0]]), torch.cat([Y[:5], OUTER_DATA[1]])
    make_trainer(inner_steps=1, final_inner_steps=0).fit(INNER_DATA, outer_data, 1)


def test_the_same_inputs_with_other_targets_are_held_out() -> None:
    make_trainer(inner_steps=1, final_inner_steps=0).fit(INNER_DATA, (X, OUTER_DATA[1]), 1)


def test_outer_data_are_needed_for_the_held_out_nll() -> None:
    with pytest.raises(ConfigError, match="outer_data is None"):
        make_trainer().fit(INNER_DATA, None, 1)


def test_at_least_one_outer_step() -> None:
    with pytest.raises(ConfigError, match="num_outer_steps=0"):
        make_trainer().fit(INNER_DATA, OUTER_DATA, 0)


def test_a_diverged_model_is_an_error() -> None:
    trainer = make_trainer(inner_optimizer=lambda params: torch.optim.SGD(params, 1e6))
    with pytest.raises(MBRLError, match="must be finite"):
        trainer.fit(INNER_DATA, OUTER_DATA, 2)
