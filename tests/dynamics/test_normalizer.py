"""Standardisation."""

import torch

from mbrl_bilevel.dynamics import Normalizer
from tests.dynamics.cases import generator


def data(count: int = 200) -> torch.Tensor:
    return torch.randn(count, 3, generator=generator()) * torch.tensor([0.01, 1.0, 50.0]) + 5


def test_before_a_fit_nothing_changes() -> None:
    x = data()
    assert torch.equal(Normalizer(3).normalize(x), x)
    assert torch.equal(Normalizer(3).denormalize(x), x)


def test_fitted_data_has_mean_0_and_standard_deviation_1() -> None:
    normalizer, x = Normalizer(3), data()
    normalizer.fit(x)
    z = normalizer.normalize(x)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(normalizer.denormalize(z), x)


def test_a_second_fit_forgets_the_first() -> None:
    normalizer, fresh, x = Normalizer(3), Normalizer(3), data()
    normalizer.fit(100 * x + 3)
    normalizer.fit(x)
    fresh.fit(x)
    assert torch.equal(normalizer.mean, fresh.mean)
    assert torch.equal(normalizer.std, fresh.std)


def test_constant_dimensions_are_centred_but_not_scaled() -> None:
    x = data()
    x[:, 0] = 0.0
    x[:, 1] = 1e4
    x[::2, 1] += 2e-3  # two neighbouring numbers in single precision: rounding, not data
    normalizer = Normalizer(3)
    normalizer.fit(x)
    assert normalizer.std[:2].tolist() == [1.0, 1.0]
    assert normalizer.normalize(x)[:, :2].abs().max() < 2e-3
    assert normalizer.std[2] > 10


def test_a_single_row_is_constant() -> None:
    normalizer, x = Normalizer(3), data(1)
    normalizer.fit(x)
    assert normalizer.std.tolist() == [1.0] * 3
    assert torch.equal(normalizer.normalize(x), torch.zeros(1, 3))


def test_a_small_spread_is_not_mistaken_for_none() -> None:
    normalizer, x = Normalizer(1), 1e-4 * torch.randn(100, 1, generator=generator())
    normalizer.fit(x)
    torch.testing.assert_close(normalizer.std, x.std(dim=0, correction=0))


def test_statistics_are_exact_far_from_zero() -> None:
    x = 1e4 + torch.randn(1000, 3, generator=generator())
    normalizer = Normalizer(3)
    normalizer.fit(x)
    assert torch.equal(normalizer.mean, x.double().mean(dim=0).float())
    assert torch.equal(normalizer.std, x.double().std(dim=0, correction=0).float())


def test_the_statistics_are_part_of_the_state() -> None:
    normalizer, restored = Normalizer(3), Normalizer(3)
    normalizer.fit(data())
    restored.load_state_dict(normalizer.state_dict())
    assert torch.equal(restored.normalize(data()), normalizer.normalize(data()))
