"""SOAP against Adam where they agree, and against its own promises where they do not."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import soap
from mbrl_bilevel.dynamics.soap import SOAP
from tests.dynamics.cases import normal

E, IN, OUT, ROWS = 3, 6, 4, 40
BETAS = (0.9, 0.98)


def layer(seed: int = 0, size: int = E) -> list[Tensor]:
    """A weight `[E, in, out]` and a bias `[E, 1, out]`."""
    values = normal(seed, E, IN, OUT)[:size], normal(seed + 1, E, 1, OUT)[:size]
    return [value.clone().requires_grad_() for value in values]


def descend(
    optimizer: torch.optim.Optimizer,
    params: list[Tensor],
    num_steps: int,
    first: int = 0,
    members: slice = slice(0, E),
) -> None:
    """Steps on a regression with new data at each."""
    weight, bias = params
    target_map = normal(100, E, IN, OUT)[members]
    scale = torch.logspace(1, -1, IN, dtype=torch.float64)
    for step in range(first, first + num_steps):
        x = normal(200 + step, E, ROWS, IN)[members] * scale
        y = x @ target_map + normal(5000 + step, E, ROWS, OUT)[members]
        optimizer.zero_grad()
        (x @ weight + bias - y).square().mean(dim=(1, 2)).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases that are refined often enough for a short test."""
    monkeypatch.setattr(soap, "BASIS_EVERY", 6)
    monkeypatch.setattr(soap, "COVARIANCE_EVERY", 3)


# --- where it is Adam


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("eps", [1e-8, 1e-1])
def test_without_bases_it_is_adam(monkeypatch: pytest.MonkeyPatch, eps: float) -> None:
    monkeypatch.setattr(soap, "MAX_SIZE", 0)
    ours, theirs = layer(), layer()
    descend(SOAP(ours, lr=0.03, betas=BETAS, eps=eps), ours, 40)
    descend(torch.optim.Adam(theirs, lr=0.03, betas=BETAS, eps=eps), theirs, 40)
    for one, other, start in zip(ours, theirs, layer(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        assert (one - start).norm() > 0.1


@pytest.mark.usefixtures("eager")
def test_without_bases_weight_decay_is_adamws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoupled, and of each group by itself."""
    monkeypatch.setattr(soap, "MAX_SIZE", 0)

    def groups(params: list[Tensor]) -> list[dict[str, Any]]:
        return [
            {"params": params[:1], "weight_decay": 0.7, "lr": 0.05},
            {"params": params[1:], "weight_decay": 0.0},
        ]

    ours, theirs, undecayed = layer(), layer(), layer()
    descend(SOAP(groups(ours), lr=0.03, betas=BETAS), ours, 30)
    descend(torch.optim.AdamW(groups(theirs), lr=0.03, betas=BETAS), theirs, 30)
    descend(SOAP(undecayed, lr=0.03, betas=BETAS), undecayed, 30)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert (ours[0] - undecayed[0]).abs().max() > 1e-2


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("shape", [(), (5,), (E, 1, OUT), (E, IN, 1), (1, 1)])
def test_what_has_no_two_sides_gets_adams_update(shape: tuple[int, ...]) -> None:
    ours, theirs = (normal(0, *shape).requires_grad_() for _ in range(2))
    optimizers = SOAP([ours], lr=0.03, betas=BETAS), torch.optim.Adam([theirs], 0.03, BETAS)
    for step in range(20):
        for optimizer, parameter in zip(optimizers, (ours, theirs), strict=True):
            parameter.grad = parameter.detach() + normal(step, *shape)
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert not any(side in optimizers[0].state[ours] for side in soap.SIDES)


def test_a_side_that_is_too_long_keeps_its_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "MAX_SIZE", OUT)
    params = layer()
    optimizer = SOAP(params, lr=0.03)
    descend(optimizer, params, 5)
    state = optimizer.state[params[0]]
    assert "left" not in state
    assert state["right_basis"].shape == (E, OUT, OUT)


def test_with_bases_it_is_not_adam() -> None:
    ours, theirs = layer(), layer()
    descend(SOAP(ours, lr=0.03, betas=BETAS), ours, 3)
    descend(torch.optim.Adam(theirs, lr=0.03, betas=BETAS), theirs, 3)
    assert (ours[0] - theirs[0]).abs().max() > 1e-2


def test_the_first_step_is_the_orthogonal_factor_of_the_gradient() -> None:
    """In its own singular basis a gradient is diagonal, and Adam's first step its sign."""
    weight = torch.zeros(E, IN, OUT, dtype=torch.float64).requires_grad_()
    optimizer = SOAP([weight], lr=0.5)
    gradient = normal(3, E, IN, OUT)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    weight.grad = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), -0.5 * left @ right, rtol=0, atol=1e-5)


# --- members, bases, covariances


@pytest.mark.usefixtures("eager")
def test_members_together_go_where_each_goes_alone() -> None:
    together = layer()
    descend(SOAP(together, lr=0.03, weight_decay=0.1), together, 30)
    for member in range(E):
        rows = slice(member, member + 1)
        alone = [value.detach()[rows].clone().requires_grad_() for value in layer()]
        descend(SOAP(alone, lr=0.03, weight_decay=0.1), alone, 30, members=rows)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[rows], other, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bases_stay_orthogonal_and_covariances_positive(dtype: torch.dtype) -> None:
    weight = torch.zeros(E, IN, OUT, dtype=dtype).requires_grad_()
    optimizer = SOAP([weight], lr=0.03)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for step in range(100):
        # Two directions only: what is singular must stay harmless.
        gradient = normal(2 * step, E, IN, 2) @ normal(2 * step + 1, E, 2, OUT)
        weight.grad = gradient.to(dtype)
        optimizer.step()
        state = optimizer.state[weight]
        for side, size in zip(soap.SIDES, (IN, OUT), strict=True):
            basis, covariance = state[f"{side}_basis"], state[side]
            identity = torch.eye(size, dtype=dtype).expand(E, size, size)
            torch.testing.assert_close(basis.mT @ basis, identity, rtol=0, atol=tolerance)
            torch.testing.assert_close(covariance, covariance.mT)
            eigenvalues = torch.linalg.eigvalsh(covariance)
            assert (eigenvalues >= -tolerance * eigenvalues[..., -1:]).all()
    assert weight.isfinite().all()


def test_bases_turn_towards_the_eigenbases_of_the_covariances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The covariances are those of all gradients so far; the bases at first only the first's."""
    monkeypatch.setattr(soap, "BASIS_EVERY", 2)
    monkeypatch.setattr(soap, "COVARIANCE_EVERY", 1)
    weight = torch.zeros(IN, OUT, dtype=torch.float64).requires_grad_()
    optimizer = SOAP([weight], lr=0.0, betas=(0.9, 0.99))
    scale = torch.logspace(1, -1, IN, dtype=torch.float64)
    turn = torch.linalg.qr(normal(50, IN, IN)).Q

    def off_diagonal() -> float:
        state = optimizer.state[weight]
        found = state["left_basis"].mT @ turn @ scale.square().diag() @ turn.mT
        found = found @ state["left_basis"]
        return float((found - found.diagonal().diag()).norm() / found.norm())

    for step in range(400):
        weight.grad = turn @ (scale[:, None] * normal(step, IN, OUT))
        optimizer.step()
        if step == 0:
            at_first = off_diagonal()
    assert off_diagonal() < 0.1
    assert off_diagonal() < 0.5 * at_first


@pytest.mark.usefixtures("eager")
def test_the_momentum_is_turned_along_with_the_basis() -> None:
    """In the layer's own axes it is the decayed mean of the gradients, refined bases or not."""
    weight = torch.zeros(IN, OUT, dtype=torch.float64).requires_grad_()
    optimizer = SOAP([weight], lr=0.01, betas=BETAS)
    expected = torch.zeros_like(weight)
    for step in range(14):
        weight.grad = normal(step, IN, OUT)
        expected = BETAS[0] * expected + (1 - BETAS[0]) * weight.grad
        optimizer.step()
    state = optimizer.state[weight]
    found = state["left_basis"] @ state["exp_avg"] @ state["right_basis"].mT
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("eager")
def test_it_does_not_matter_which_way_the_axes_point() -> None:
    """Turned gradients give turned updates: what Adam's diagonal preconditioner cannot do."""
    # Square gradients have full rank: the basis of a null space would be anybody's choice.
    turn = torch.linalg.qr(normal(7, IN, IN)).Q
    straight, turned = (torch.zeros(IN, IN, dtype=torch.float64).requires_grad_() for _ in "ab")
    optimizers = SOAP([straight], lr=0.1), SOAP([turned], lr=0.1)
    for step in range(20):
        gradient = normal(step, IN, IN)
        straight.grad, turned.grad = gradient, turn @ gradient
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(turned.detach(), turn @ straight.detach(), rtol=0, atol=1e-5)


# --- what it is for


def ill_conditioned() -> tuple[Tensor, Tensor]:
    """Inputs whose covariance has the condition 1e4, along no axis; noiseless targets."""
    size, targets, rows = 24, 8, 256
    turn = torch.linalg.qr(normal(0, size, size)).Q
    white = torch.linalg.qr(normal(1, rows, size)).Q * rows**0.5
    scale = torch.logspace(0, -2, size, dtype=torch.float64)
    x = white * scale @ turn
    return x, x @ turn.mT @ (normal(2, size, targets) / scale[:, None])


def loss_after(make: Callable[[Tensor], torch.optim.Optimizer], num_steps: int) -> float:
    x, y = ill_conditioned()
    weight = torch.zeros(1, x.shape[1], y.shape[1], dtype=torch.float64).requires_grad_()
    optimizer = make(weight)
    moment, cross = x.mT @ x / y.numel(), x.mT @ y / y.numel()
    for _ in range(num_steps):
        weight.grad = moment @ weight.detach() - cross
        optimizer.step()
    return 0.5 * (x @ weight.detach() - y).square().mean().item()


def test_it_gets_further_than_adam_on_an_ill_conditioned_regression() -> None:
    adams = [
        loss_after(lambda weight: torch.optim.Adam([weight], lr=lr), num_steps=400)  # noqa: B023
        for lr in (0.1, 0.3, 1.0, 3.0, 10.0)
    ]
    best = min(adams)
    assert best < 0.1 * loss_after(lambda weight: SOAP([weight], lr=1.0), num_steps=0)
    assert best < min(adams[0], adams[-1]), "the best of the grid is not at its edge"
    assert loss_after(lambda weight: SOAP([weight], lr=1.0), num_steps=400) < 0.05 * best


# --- checkpoints


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize("first_steps", [1, 6, 11])
def test_a_restored_optimiser_goes_on_bit_for_bit(first_steps: int, through_a_file: bool) -> None:
    params = layer()
    optimizer = SOAP(params, lr=0.03, weight_decay=0.1)
    descend(optimizer, params, first_steps)
    saved: dict[str, Any] = copy.deepcopy(optimizer.state_dict())
    if through_a_file:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    restored = [value.detach().clone().requires_grad_() for value in params]
    # What is restored overrides these.
    resumed = SOAP(restored, lr=7.0, betas=(0.5, 0.5), eps=1.0)
    resumed.load_state_dict(saved)
    fresh = [value.detach().clone().requires_grad_() for value in params]
    descend(optimizer, params, 20, first=first_steps)
    descend(resumed, restored, 20, first=first_steps)
    descend(SOAP(fresh, lr=0.03, weight_decay=0.1), fresh, 20, first=first_steps)
    for one, other, without in zip(params, restored, fresh, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, without)
    one_state, other_state = optimizer.state[params[0]], resumed.state[restored[0]]
    assert one_state.keys() == other_state.keys()
    assert all(torch.equal(one_state[key], other_state[key]) for key in one_state)


# --- odd input


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("first_steps", [0, 3])
def test_a_gradient_that_is_not_finite_shows_in_the_weights(value: float, first_steps: int) -> None:
    """It must not crash in a decomposition: the trainer names it. Other members stay healthy."""
    params = layer()
    optimizer = SOAP(params, lr=0.03)
    descend(optimizer, params, first_steps)
    for step in range(8):
        for parameter in params:
            parameter.grad = normal(step, *parameter.shape)
            parameter.grad[1, 0, 0] = value
        optimizer.step()
    for parameter in params:
        assert not parameter[1].isfinite().all()
        assert parameter[[0, 2]].isfinite().all()


def test_a_gradient_of_zeros_changes_nothing() -> None:
    params = layer()
    optimizer = SOAP(params, lr=0.03)
    for _ in range(soap.BASIS_EVERY + 1):
        for parameter in params:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for parameter, start in zip(params, layer(), strict=True):
        assert torch.equal(parameter, start)


def test_parameters_without_a_gradient_stay() -> None:
    params = layer()
    optimizer = SOAP(params, lr=0.03, weight_decay=0.1)
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()
    assert torch.equal(params[0], layer()[0])
    assert not torch.equal(params[1], layer()[1])
    assert params[0] not in optimizer.state


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="SOAP takes no closure"):
        SOAP(layer(), lr=0.03).step(lambda: 0.0)
