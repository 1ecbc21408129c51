"""Derivatives that are written out, against PyTorch's own."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.bilevel import make_objective
from mbrl_bilevel.dynamics import GaussianEnsemble, backward
from mbrl_bilevel.dynamics.backward import AutogradBackward, EnsembleBackward, make_backward
from mbrl_bilevel.dynamics.ensemble import bound_log_var, bound_log_var_with_slope
from mbrl_bilevel.objectives import Objective
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import CONFIGS, disturb, generator

E, B, D_X, D = 3, 11, 5, 2
EACH_OBJECTIVE = pytest.mark.parametrize("name", CONFIGS)


def make_network(
    dtype: torch.dtype = torch.float64, hidden_sizes: tuple[int, ...] = (8, 8, 8)
) -> GaussianEnsemble:
    network = GaussianEnsemble(D_X, D, E, hidden_sizes, generator(), with_leverage=True).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator(1), dtype=torch.float64)
            parameter += 0.3 * noise
    return network


def make(name: str, dtype: torch.dtype = torch.float64) -> Objective:
    """An objective whose outer parameters are anything."""
    objective = make_objective(CONFIGS[name], E, D).to(dtype)
    disturb(objective)
    return objective


def draw(batch_size: int = B, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draws = generator(2)
    x = torch.randn(E, batch_size, D_X, generator=draws, dtype=torch.float64)
    y = torch.randn(E, batch_size, D, generator=draws, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


def gradients(network: GaussianEnsemble) -> list[Tensor]:
    found = []
    for parameter in (*network.weights, *network.biases):
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
    return found


def by_autograd(
    network: GaussianEnsemble, objective: Objective, x: Tensor, y: Tensor
) -> tuple[Tensor, list[Tensor]]:
    losses = AutogradBackward(network)(objective, x, y)
    return losses, gradients(network)


@EACH_OBJECTIVE
@pytest.mark.parametrize("hidden_sizes", [(8, 8, 8), (7,), (6, 9), (5, 5, 5, 5)])
def test_losses_and_gradients_are_those_of_autograd(
    name: str, hidden_sizes: tuple[int, ...]
) -> None:
    network, objective = make_network(hidden_sizes=hidden_sizes), make(name)
    x, y = draw()
    expected_losses, expected = by_autograd(network, objective, x, y)
    written_out = make_backward(network)
    assert isinstance(written_out, EnsembleBackward)
    for _ in range(2):  # what the first call leaves behind does not matter
        losses = written_out(objective, x, y)
        torch.testing.assert_close(losses, expected_losses, rtol=1e-10, atol=1e-10)
        for found, wanted in zip(gradients(network), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("by_member", [False, True])
@EACH_OBJECTIVE
def test_float32_gradients_are_as_exact_as_autograds(
    name: str, by_member: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backward, "prefers_onednn", lambda: by_member)
    monkeypatch.setattr(backward, "MIN_WORK", 0)
    exact, single = make_network(), make_network(torch.float32)
    _, expected = by_autograd(exact, make(name), *draw())
    make_backward(single)(make(name, torch.float32), *draw(dtype=torch.float32))
    for found, wanted in zip(gradients(single), expected, strict=True):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_a_single_member_can_have_its_own_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "prefers_onednn", lambda: True)
    monkeypatch.setattr(backward, "MIN_WORK", 0)
    network = GaussianEnsemble(D_X, D, 1, (8, 8), generator())
    objective = make_objective(CONFIGS["nll"], 1, D)
    x, y = (each[:1] for each in draw(dtype=torch.float32))
    _, expected = by_autograd(network, objective, x, y)
    make_backward(network)(objective, x, y)
    for found, wanted in zip(gradients(network), expected, strict=True):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_small_batches_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "prefers_onednn", lambda: True)
    calls: list[torch.Size] = []
    linear = backward.linear

    def recorded(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        calls.append(x.shape)
        return linear(x, weight, bias)

    monkeypatch.setattr(backward, "linear", recorded)
    network, objective = make_network(torch.float32, hidden_sizes=(8,)), make("mse", torch.float32)
    monkeypatch.setattr(backward, "MIN_WORK", B * (D_X * 8 + 8 * 2 * D))
    written_out = make_backward(network)
    written_out(objective, *draw(B - 1, torch.float32))
    assert calls == []
    written_out(objective, *draw(B, torch.float32))
    # Forward, the weights' gradients, and the one within; each member on its own.
    assert calls.count(torch.Size([B, D_X])) == E
    assert len(calls) == 5 * E


def test_batches_of_another_size_get_room_of_their_own() -> None:
    network, twin, objective = make_network(), make_network(), make("nll")
    written_out = make_backward(network)
    for batch_size in (B, 4, 30):
        x, y = draw(batch_size)
        written_out(objective, x, y)
        _, expected = by_autograd(twin, objective, x, y)
        for found, wanted in zip(gradients(network), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
@pytest.mark.parametrize("name", ["nll", "mse", "bilevel_state_dependent"])
def test_bfloat16_rounds_and_no_more(
    name: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backward, "multiplies_bfloat16", lambda: native)
    network, objective = make_network(torch.float32), make(name, torch.float32)
    x, y = draw(dtype=torch.float32)
    _, expected = by_autograd(network, objective, x, y)
    make_backward(network, torch.bfloat16)(objective, x, y)
    for found, wanted in zip(gradients(network), expected, strict=True):
        assert found.dtype == torch.float32
        assert 1e-4 < (found - wanted).norm() / wanted.norm() < 0.05


def test_bounded_log_variances_and_their_slope() -> None:
    raw = torch.linspace(-40.0, 30.0, 281, dtype=torch.float64, requires_grad=True)
    expected = bound_log_var(raw)
    (slope,) = torch.autograd.grad(expected.sum(), raw)
    found, found_slope = bound_log_var_with_slope(raw.detach())
    # PyTorch's softplus is the identity above 20, which is off by up to 2e-9.
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=5e-9)
    torch.testing.assert_close(found_slope, slope, rtol=0, atol=5e-9)


@EACH_OBJECTIVE
def test_closed_forms_are_the_derivatives_of_the_loss(name: str) -> None:
    objective = make(name)
    mean, log_var, target = torch.randn(3, E, B, D, generator=generator(), dtype=torch.float64)
    closed = objective.differentiate(Gaussian(mean, log_var), target)
    automatic = Objective.differentiate(objective, Gaussian(mean, log_var), target)
    for found, expected in zip(closed, automatic, strict=True):
        if expected is None:
            assert found is None
        else:
            assert found is not None
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


class Doubled(GaussianEnsemble):
    """Predicts twice the mean."""

    def forward(self, x: Tensor) -> Gaussian:
        prediction = super().forward(x)
        return Gaussian(2 * prediction.mean, prediction.log_var)


def test_modules_that_compute_something_else_are_left_to_autograd() -> None:
    network, objective = Doubled(D_X, D, E, [8], generator()), make("mse", torch.float32)
    x, y = draw(dtype=torch.float32)
    find = make_backward(network)
    assert isinstance(find, AutogradBackward)
    find(objective, x, y)
    loss = objective.loss(network(x), y).sum()
    expected = torch.autograd.grad(loss, [*network.weights, *network.biases])
    for found, wanted in zip(gradients(network), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_active_leverage_is_left_to_autograd() -> None:
    network = make_network()
    assert network.leverage is not None
    assert isinstance(make_backward(network), EnsembleBackward)
    network.leverage.slope += 0.5
    assert isinstance(make_backward(network), AutogradBackward)
