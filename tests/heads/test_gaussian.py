"""Gaussian heads, against `torch.distributions` and explicit Fisher matrices."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import DiagonalGaussianHead, FullGaussianHead, GaussianHead
from mbrl_bilevel.rewards import DiagonalPrecision, FullPrecision

D = 3
DIAGONAL, FULL = DiagonalGaussianHead(D), FullGaussianHead(D)
EACH_HEAD = pytest.mark.parametrize("head", [DIAGONAL, FULL], ids=["diagonal", "full"])


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def covariance_of(head: GaussianHead, z: Tensor) -> Tensor:
    """From the outputs' meaning as documented, `[*S, D, D]`."""
    if isinstance(head, DiagonalGaussianHead):
        return torch.diag_embed(z[..., D:].exp())
    factor = torch.zeros(*z.shape[:-1], D, D, dtype=z.dtype)
    entry = 2 * D
    for row in range(D):
        scale = z[..., D + row].exp()
        factor[..., row, row] = scale
        for column in range(row):
            factor[..., row, column] = scale * z[..., entry]
            entry += 1
    assert entry == head.num_outputs
    return factor @ factor.mT


def distribution(head: GaussianHead, z: Tensor) -> torch.distributions.MultivariateNormal:
    return torch.distributions.MultivariateNormal(z[..., :D], covariance_of(head, z))


@EACH_HEAD
def test_log_prob_and_entropy(head: GaussianHead) -> None:
    z, y = normal(0, 2, 5, head.num_outputs), normal(1, 2, 5, D)
    expected = distribution(head, z)
    torch.testing.assert_close(head.log_prob(z, y), expected.log_prob(y))
    torch.testing.assert_close(head.entropy(z), expected.entropy())
    torch.testing.assert_close(head.log_det(z), torch.logdet(covariance_of(head, z)))


@EACH_HEAD
def test_log_prob_broadcasts_over_samples(head: GaussianHead) -> None:
    z, samples = normal(0, 5, head.num_outputs), normal(1, 7, 5, D)
    found = head.log_prob(z, samples)
    assert found.shape == (7, 5)
    torch.testing.assert_close(found[3], head.log_prob(z, samples[3]))


@EACH_HEAD
@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_the_trace_with_a_precision(head: GaussianHead, structure: str) -> None:
    z = normal(0, 4, head.num_outputs)
    for batch in ((4,), ()):
        if structure == "diagonal":
            precision = DiagonalPrecision(normal(1, *batch, D))
        else:
            precision = FullPrecision(normal(1, *batch, D), normal(2, *batch, D * (D - 1) // 2))
        product = precision.matrix() @ covariance_of(head, z)
        expected = product.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        torch.testing.assert_close(head.trace(z, precision), expected)


@EACH_HEAD
def test_samples_have_the_mean_and_covariance(head: GaussianHead) -> None:
    z = normal(0, 4, head.num_outputs)
    noise = normal(1, 500, 4, D)
    # Antithetic and whitened: the moments are then exact, not only in the limit.
    noise = torch.cat([noise, -noise])
    second_moment = torch.einsum("ksi,ksj->sij", noise, noise) / len(noise)
    root = torch.linalg.cholesky(second_moment)
    noise = torch.linalg.solve_triangular(root, noise[..., None], upper=False)[..., 0]
    samples = head.sample(z, noise)
    assert samples.shape == (1000, 4, D)
    errors = samples - z[:, :D]
    torch.testing.assert_close(samples.mean(dim=0), z[:, :D])
    found = torch.einsum("ksi,ksj->sij", errors, errors) / len(errors)
    torch.testing.assert_close(found, covariance_of(head, z))


@EACH_HEAD
def test_noise_is_standard_normal_and_comes_from_the_generator(head: GaussianHead) -> None:
    z = normal(0, 2, 5, head.num_outputs)
    first, same, other = (
        head.noise(z, 4000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (4000, 2, 5, D)
    assert first.dtype == z.dtype
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.mean().abs() <= 0.02
    assert (first.square().mean() - 1).abs() <= 0.02


@EACH_HEAD
def test_samples_are_differentiable_in_the_outputs(head: GaussianHead) -> None:
    z, noise = normal(0, 2, head.num_outputs).requires_grad_(), normal(1, 6, 2, D)
    assert head.reparameterisable
    assert torch.autograd.gradcheck(lambda outputs: head.sample(outputs, noise), z)


def spd(seed: int, *batch: int) -> Tensor:
    root = normal(seed, *batch, D, D)
    return root @ root.mT + 0.1 * torch.eye(D, dtype=torch.float64)


def test_outputs_of_a_mean_and_a_full_covariance() -> None:
    mean, covariance = normal(0, 4, D), spd(1, 4)
    z = FULL.outputs(mean, covariance)
    torch.testing.assert_close(FULL.mean(z), mean)
    torch.testing.assert_close(covariance_of(FULL, z), covariance)
    factor = FULL.scale_tril(z)
    torch.testing.assert_close(factor, torch.linalg.cholesky(covariance))


def test_outputs_of_a_diagonal_head_are_the_inner_problems_projection() -> None:
    """Of all diagonal covariances, `1 / P_ii` is the one of least KL to `N(mean, P^-1)`."""
    mean, covariance = normal(0, 4, D), spd(1, 4)
    z = DIAGONAL.outputs(mean, covariance)
    goal = torch.distributions.MultivariateNormal(mean, covariance)

    def divergence(outputs: Tensor) -> Tensor:
        return torch.distributions.kl_divergence(distribution(DIAGONAL, outputs), goal)

    for seed in range(5):
        assert (divergence(z + 0.01 * normal(seed, *z.shape)) > divergence(z)).all()


@EACH_HEAD
def test_outputs_round_trip_and_broadcast(head: GaussianHead) -> None:
    z = normal(0, 4, head.num_outputs)
    torch.testing.assert_close(head.outputs(z[:, :D], covariance_of(head, z)), z)
    one_for_all = head.outputs(normal(1, 2, 4, D), covariance_of(head, z[0]))
    assert one_for_all.shape == (2, 4, head.num_outputs)
    torch.testing.assert_close(one_for_all[..., D:], z[0, D:].expand(2, 4, -1))


def explicit_fisher(head: GaussianHead, z: Tensor) -> Tensor:
    """`E[(grad log p)(grad log p)^T]`: the Hessian of the KL divergence, `[n, n]` at z `[n]`."""
    here = distribution(head, z)
    return torch.autograd.functional.hessian(
        lambda other: torch.distributions.kl_divergence(here, distribution(head, other)), z
    )


@EACH_HEAD
@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_precondition_multiplies_the_gradient_by_the_inverse_fisher(
    head: GaussianHead, exponent: float
) -> None:
    rows = normal(0, 4, head.num_outputs)
    plain_gradient = normal(1, 4, head.num_outputs)
    z = rows.clone().requires_grad_()
    preconditioned = head.precondition(z, exponent)
    assert torch.equal(preconditioned, z)
    (preconditioned * plain_gradient).sum().backward()
    # A full head's metric is that of the mean alone.
    part = slice(None) if head is DIAGONAL else slice(D)
    for row, before, after in zip(rows, plain_gradient, z.grad, strict=True):
        values, vectors = torch.linalg.eigh(explicit_fisher(head, row)[part, part])
        metric = vectors @ torch.diag(values**-exponent) @ vectors.mT
        torch.testing.assert_close(after[part], metric @ before[part])
        if head is FULL:
            assert torch.equal(after[D:], before[D:])


@EACH_HEAD
def test_precondition_leaves_constants_alone(head: GaussianHead) -> None:
    z = normal(0, 4, head.num_outputs)
    assert head.precondition(z, 1.0) is z


@EACH_HEAD
def test_what_targets_and_outputs_must_look_like(head: GaussianHead) -> None:
    name = head.name
    head.check_outputs(torch.zeros(2, 5, head.num_outputs))
    with pytest.raises(ValueError, match=rf"shape \[5, 2\]; head '{name}' needs \[\.\.\., \d"):
        head.check_outputs(torch.zeros(5, 2))
    head.check_targets(torch.zeros(5, D))
    with pytest.raises(ValueError, match=rf"shape \[5, 2\]; head '{name}' needs \[\.\.\., 3\]"):
        head.check_targets(torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"shape \[\]"):
        head.check_targets(torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"dtype torch\.int64; .* floating-point"):
        head.check_targets(torch.zeros(5, D, dtype=torch.int64))
    bad = torch.zeros(5, D)
    bad[3, 1], bad[4, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match=r"nan or infinity \(2 values; row 3\)"):
        head.check_targets(bad)


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_an_impossible_size(size: object) -> None:
    for cls in (DiagonalGaussianHead, FullGaussianHead):
        with pytest.raises(ConfigError, match=rf"target_size={size}; it must be an integer of"):
            cls(size)  # type: ignore[arg-type]


def test_in_one_dimension_both_heads_are_the_same() -> None:
    diagonal, full = DiagonalGaussianHead(1), FullGaussianHead(1)
    z, y = normal(0, 4, 2), normal(1, 4, 1)
    half = torch.stack([z[:, 0], 0.5 * z[:, 1]], dim=-1)
    assert diagonal.num_outputs == full.num_outputs == 2
    torch.testing.assert_close(diagonal.log_prob(z, y), full.log_prob(half, y))
