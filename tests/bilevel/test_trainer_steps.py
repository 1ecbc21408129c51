"""How `BilevelTrainer` goes about it: samples, optimisers, modes, batches, the best pair, logs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mbrl_bilevel.bilevel import BilevelTrainer, OuterStep, make_solver
from mbrl_bilevel.estimators import Reparameterised, ScoreFunction
from tests.bilevel.trainer_cases import (
    INNER_DATA,
    OUTER_DATA,
    Affine,
    gradient_descent,
    learned_u,
    make_trainer,
)


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
