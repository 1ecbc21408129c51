"""The equations of motion against what must hold for any rod on any cart."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mbrl_envs.cartpole_physics import CartPoleParams, cartpole_derivatives, cartpole_step

PARAMS = CartPoleParams(cart_mass=0.7, pole_mass=0.3, pole_length=0.9, gravity=9.81)


def random_states(num_states: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 3.0, torch.pi, 8.0], dtype=torch.float64)
    uniform = torch.rand(num_states, 4, generator=generator, dtype=torch.float64)
    return scale * (2.0 * uniform - 1.0)


def energy_and_momentum(state: Tensor, params: CartPoleParams) -> tuple[Tensor, Tensor]:
    """By adding up the mass elements of the rod, so without its moment of inertia.

    Two Gauss points are exact here: the energy of an element is quadratic in its place on the rod.
    """
    _, x_dot, theta, theta_dot = state.unbind(-1)
    energy = 0.5 * params.cart_mass * x_dot**2
    momentum = params.cart_mass * x_dot
    for fraction in (0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5):
        mass, place = 0.5 * params.pole_mass, fraction * params.pole_length
        velocity_x = x_dot + place * theta_dot * torch.cos(theta)
        velocity_y = -place * theta_dot * torch.sin(theta)
        energy = energy + 0.5 * mass * (velocity_x**2 + velocity_y**2)
        energy = energy + mass * params.gravity * place * torch.cos(theta)
        momentum = momentum + mass * velocity_x
    return energy, momentum


def time_derivative(quantity: Tensor, state: Tensor, derivatives: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(quantity.sum(), state, retain_graph=True)
    return (gradient * derivatives).sum(-1)


@pytest.mark.parametrize("params", [PARAMS, CartPoleParams()])
def test_power_and_impulse_are_those_of_the_force(params: CartPoleParams) -> None:
    """Energy changes by force times velocity, momentum by the force: this fixes both equations."""
    state = random_states(100).requires_grad_()
    force = torch.linspace(-10.0, 10.0, 100, dtype=torch.float64)
    energy, momentum = energy_and_momentum(state, params)
    derivatives = cartpole_derivatives(state, force, params)

    power = time_derivative(energy, state, derivatives)
    torch.testing.assert_close(power, force * state[:, 1], rtol=1e-11, atol=1e-11)
    impulse = time_derivative(momentum, state, derivatives)
    torch.testing.assert_close(impulse, force, rtol=1e-11, atol=1e-11)


def test_energy_and_momentum_are_conserved_without_a_force() -> None:
    state = random_states(20)
    energy, momentum = energy_and_momentum(state, PARAMS)
    for _ in range(2_000):
        state = cartpole_step(state, 0.0, 0.001, PARAMS)
    later_energy, later_momentum = energy_and_momentum(state, PARAMS)
    torch.testing.assert_close(later_energy, energy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(later_momentum, momentum, rtol=1e-9, atol=1e-9)


def test_small_swings_have_the_period_of_a_rod_on_a_heavy_cart() -> None:
    params = CartPoleParams(cart_mass=1e9, pole_mass=0.1, pole_length=0.5)
    period = 2.0 * np.pi * np.sqrt(2.0 * params.pole_length / (3.0 * params.gravity))
    start = np.array([0.0, 0.0, np.pi - 1e-3, 0.0])
    state = start
    for _ in range(1_000):
        state = cartpole_step(state, 0.0, period / 1_000, params)
    np.testing.assert_allclose(state, start, atol=1e-8)


def test_the_step_is_of_fourth_order_at_least() -> None:
    def after_one_second(num_steps: int) -> Tensor:
        state = random_states(10)
        for _ in range(num_steps):
            state = cartpole_step(state, 3.0, 1.0 / num_steps, PARAMS)
        return state

    reference = after_one_second(1_600)
    coarse, fine = ((after_one_second(n) - reference).abs().sum() for n in (100, 200))
    # Halving the step divides the error by 16 at fourth order, by 8 at third.
    assert coarse / fine > 12.0


@pytest.mark.parametrize("function", ["derivatives", "step"])
def test_numpy_torch_and_a_plain_loop_agree(function: str) -> None:
    def evaluate(state: Any, force: Any) -> Any:
        if function == "derivatives":
            return cartpole_derivatives(state, force, PARAMS)
        return cartpole_step(state, force, 0.04, PARAMS)

    state = random_states(6).reshape(2, 3, 4)
    force = torch.linspace(-5.0, 5.0, 6, dtype=torch.float64).reshape(2, 3)
    batched = evaluate(state, force)
    assert isinstance(batched, Tensor)
    assert batched.shape == (2, 3, 4)

    from_numpy = evaluate(state.numpy(), force.numpy())
    assert isinstance(from_numpy, np.ndarray)
    np.testing.assert_allclose(from_numpy, batched.numpy(), rtol=1e-12, atol=1e-12)
    for row in range(2):
        for column in range(3):
            single = evaluate(state[row, column].numpy(), float(force[row, column]))
            np.testing.assert_allclose(single, from_numpy[row, column], rtol=1e-12, atol=1e-12)


def test_a_push_to_the_right_swings_the_hanging_pole_to_the_left() -> None:
    hanging = np.array([0.0, 0.0, np.pi, 0.0])
    state = cartpole_step(hanging, 5.0, 0.04, PARAMS)
    assert state[0] > 0.0
    # theta grows clockwise: past pi the tip is on the left.
    assert state[2] > np.pi
