"""The batched ensemble against a plain loop over members and layers."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mbrl_bilevel.dynamics import GaussianEnsemble
from tests.dynamics.cases import disturb, generator

E, D_X, D = 4, 5, 3


def make(hidden_sizes: tuple[int, ...] = (8, 6), seed: int = 0) -> GaussianEnsemble:
    network = GaussianEnsemble(D_X, D, E, hidden_sizes, generator(seed)).double()
    disturb(network)
    return network


def inputs(count: int = 10) -> Tensor:
    return torch.randn(E, count, D_X, generator=generator(1), dtype=torch.float64)


def one_member(network: GaussianEnsemble, member: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance `[D]` of one member at one input `[D_X]`, written out."""
    *hidden, last = zip(network.weights, network.biases, strict=True)
    for weight, bias in hidden:
        z = weight[member].T @ x + bias[member, 0]
        x = z / (1 + (-z).exp())
    weight, bias = last
    output = weight[member].T @ x + bias[member, 0]
    log_var = 1.0 - functional.softplus(1.0 - output[D:])
    return output[:D], -16.0 + functional.softplus(log_var + 16.0)


@pytest.mark.parametrize("hidden_sizes", [(8, 6), (7,), (4, 4, 4)])
def test_the_batched_ensemble_equals_a_loop(hidden_sizes: tuple[int, ...]) -> None:
    network, x = make(hidden_sizes), inputs()
    prediction = network(x)
    assert prediction.mean.shape == prediction.log_var.shape == (E, 10, D)
    for member in range(E):
        for row in range(10):
            mean, log_var = one_member(network, member, x[member, row])
            torch.testing.assert_close(prediction.mean[member, row], mean)
            torch.testing.assert_close(prediction.log_var[member, row], log_var)


def test_a_members_prediction_has_no_gradient_at_another_member() -> None:
    network = make()
    prediction = network(inputs())
    for member in range(E):
        own = prediction.mean[member].sum() + prediction.log_var[member].sum()
        gradients = torch.autograd.grad(own, list(network.parameters()), retain_graph=True)
        others = [e for e in range(E) if e != member]
        for gradient in gradients:
            assert (gradient[member] != 0).any()
            assert (gradient[others] == 0).all()


def test_the_log_variance_stays_within_its_bounds() -> None:
    network = GaussianEnsemble(D_X, D, E, [8], generator())
    with torch.no_grad():
        network.biases[-1][..., D] = 1e4
        network.biases[-1][..., D + 1] = -1e4
        network.biases[-1][..., D + 2] = -2.0
    log_var = network(inputs().float()).log_var
    torch.testing.assert_close(log_var[..., 0], torch.full((E, 10), 1.0), rtol=0, atol=1e-2)
    torch.testing.assert_close(log_var[..., 1], torch.full((E, 10), -16.0), rtol=0, atol=1e-2)
    assert ((log_var[..., 2] > -11) & (log_var[..., 2] < 0.9)).all()


def test_initial_weights_come_from_the_generator_and_differ_between_members() -> None:
    first, again, other = (GaussianEnsemble(D_X, D, E, [8], generator(s)) for s in (0, 0, 1))
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not torch.equal(first.weights[0], other.weights[0])
    for member in range(1, E):
        assert not torch.equal(first.weights[0][0], first.weights[0][member])


@pytest.mark.parametrize("fan_in", [4, 400])
def test_initial_weights_shrink_with_the_number_of_inputs(fan_in: int) -> None:
    weight = GaussianEnsemble(fan_in, D, E, [500], generator()).weights[0]
    std = fan_in**-0.5
    assert weight.abs().max() <= 2 * std
    # A normal distribution cut at two standard deviations has 0.88 of its own left.
    assert weight.std().item() == pytest.approx(0.88 * std, rel=0.05)
