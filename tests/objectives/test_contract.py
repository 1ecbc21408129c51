"""What holds for every objective: shapes, and members that keep to themselves."""

import pytest
import torch

from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian
from tests.objectives.cases import EACH_OBJECTIVE, D, E, N, detached, draw, make


@EACH_OBJECTIVE
def test_every_method_gives_one_number_a_member(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    assert objective.loss(prediction, target).shape == (E,)
    assert objective.score(prediction, target).shape == (E,)
    predictive = objective.predictive(prediction)
    assert predictive.mean.shape == predictive.log_var.shape == (E, N, D)
    if objective.solution_log_var is not None:
        assert objective.solution_log_var.shape == (E, D)


@EACH_OBJECTIVE
def test_targets_may_be_the_same_for_all_members(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    shared, repeated = target[0], target[0].expand(E, N, D)
    assert torch.equal(objective.loss(prediction, shared), objective.loss(prediction, repeated))
    assert torch.equal(objective.score(prediction, shared), objective.score(prediction, repeated))


@EACH_OBJECTIVE
def test_a_members_loss_has_no_gradient_at_another_member(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    losses = objective.loss(prediction, target)
    for member in range(E):
        (gradient,) = torch.autograd.grad(losses[member], prediction.mean, retain_graph=True)
        others = [e for e in range(E) if e != member]
        assert (gradient[member] != 0).all()
        assert (gradient[others] == 0).all()


@EACH_OBJECTIVE
def test_what_is_learned_for_a_member_does_not_depend_on_the_others(name: str) -> None:
    """Loss, score and predictive distribution after outer steps, each member alone or not."""
    prediction, target = draw()
    together = make(name)
    for step in (together.outer_step, together.solve_outer):
        step(detached(prediction), target)
    for member in range(E):
        alone = make(name, members=1)
        own = Gaussian(prediction.mean[[member]], prediction.log_var[[member]])
        for step in (alone.outer_step, alone.solve_outer):
            step(detached(own), target[[member]])
        for method in ("loss", "score"):
            expected = getattr(alone, method)(own, target[[member]])
            found = getattr(together, method)(prediction, target)[[member]]
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            together.predictive(prediction).log_var[[member]],
            alone.predictive(own).log_var,
            rtol=1e-9,
            atol=1e-9,
        )


@EACH_OBJECTIVE
def test_the_training_loss_does_not_push_the_outer_parameters(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    objective.loss(prediction, target).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in objective.parameters())


@EACH_OBJECTIVE
def test_the_mean_of_the_prediction_is_the_networks(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    objective.solve_outer(detached(prediction), target)
    assert torch.equal(objective.predictive(prediction).mean, prediction.mean)


@EACH_OBJECTIVE
def test_a_lower_score_goes_with_better_means(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    better = Gaussian(0.5 * (prediction.mean + target), prediction.log_var)
    assert (objective.score(better, target) < objective.score(prediction, target)).all()


@pytest.mark.parametrize("name", ["nll", "beta_nll", "bilevel", "bilevel_scalar"])
def test_the_score_is_the_likelihood_of_the_predictive_distribution(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    objective.solve_outer(detached(prediction), target)
    nll = gaussian_nll(objective.predictive(prediction), target).mean(dim=(1, 2))
    torch.testing.assert_close(objective.score(prediction, target), nll, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["mse", "bilevel"])
def test_the_learned_covariance_is_the_best_diagonal_one(name: str) -> None:
    """The variance of held-out residuals: any other is less likely."""
    objective, (prediction, target) = make(name), draw()
    objective.solve_outer(detached(prediction), target)
    log_var = objective.solution_log_var
    assert log_var is not None
    residuals = (prediction.mean - target).detach()
    torch.testing.assert_close(log_var.exp(), residuals.square().mean(dim=1), rtol=1e-6, atol=0)


@EACH_OBJECTIVE
def test_only_the_bilevel_objective_has_an_outer_problem(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    metrics = objective.outer_step(detached(prediction), target)
    has_outer = name.startswith("bilevel")
    assert (objective.outer_every is not None) == has_outer
    assert bool(metrics) == has_outer


@EACH_OBJECTIVE
def test_the_state_holds_all_that_was_learned(name: str) -> None:
    objective, (prediction, target) = make(name), draw()
    objective.solve_outer(detached(prediction), target)
    restored = make(name)
    restored.load_state_dict(objective.state_dict())
    assert torch.equal(
        restored.predictive(prediction).log_var, objective.predictive(prediction).log_var
    )
    assert torch.equal(restored.loss(prediction, target), objective.loss(prediction, target))
