"""The categorical head, against `torch.distributions`."""

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.heads import CategoricalHead

C = 4
HEAD = CategoricalHead(C)


def logits(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, C, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_log_prob_and_entropy(dtype: torch.dtype) -> None:
    z, y = logits(2, 5), torch.arange(10).reshape(2, 5) % C
    expected = torch.distributions.Categorical(logits=z)
    torch.testing.assert_close(HEAD.log_prob(z, y.to(dtype)), expected.log_prob(y))
    torch.testing.assert_close(HEAD.entropy(z), expected.entropy())


def test_log_prob_broadcasts_over_samples() -> None:
    z = logits(5)
    classes = torch.arange(C)[:, None].expand(C, 5)
    torch.testing.assert_close(HEAD.log_prob(z, classes).mT, z.log_softmax(dim=-1))
    one_row = HEAD.log_prob(z[0], torch.arange(C))
    torch.testing.assert_close(one_row, z[0].log_softmax(dim=-1))


def test_samples_have_the_probabilities() -> None:
    """Evenly spaced noise: the shares are exact to one in as many samples."""
    z, num_samples = logits(2, 5), 10_000
    noise = (torch.arange(num_samples, dtype=torch.float64) + 0.5) / num_samples
    samples = HEAD.sample(z, noise.reshape(-1, 1, 1, 1).expand(num_samples, 2, 5, 1))
    assert samples.shape == (num_samples, 2, 5)
    shares = torch.nn.functional.one_hot(samples, C).double().mean(dim=0)
    torch.testing.assert_close(shares, z.softmax(dim=-1), atol=2 / num_samples, rtol=0)


def test_a_class_is_always_sampled_whatever_the_rounding() -> None:
    """The probabilities may add up to less than the largest noise below one."""
    noise = torch.tensor([[[0.0]], [[1.0 - 2**-24]], [[1.0]]])
    samples = HEAD.sample(torch.zeros(1, C), noise)
    assert samples.flatten().tolist() == [0, C - 1, C - 1]


def test_noise_is_uniform_and_comes_from_the_generator() -> None:
    z = logits(5)
    first, same, other = (
        HEAD.noise(z, 4000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (4000, 5, 1)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() < 1
    assert (first.mean() - 0.5).abs() <= 0.01


def test_samples_are_not_differentiable() -> None:
    assert not HEAD.reparameterisable
    z = logits(5).requires_grad_()
    noise = HEAD.noise(z, 3, torch.Generator().manual_seed(0))
    assert not HEAD.sample(z, noise).requires_grad


def test_it_has_no_natural_gradient() -> None:
    z = logits(5)
    assert HEAD.precondition(z, 0.0) is z
    with pytest.raises(ConfigError, match=r"'categorical' has no natural gradient; .*exponent: 0"):
        HEAD.precondition(z, 0.5)


def test_what_targets_and_outputs_must_look_like() -> None:
    HEAD.check_targets(torch.arange(C))
    HEAD.check_targets(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"dtype torch\.float32; .* integers"):
        HEAD.check_targets(torch.zeros(3))
    with pytest.raises(ValueError, match=r"dtype torch\.bool"):
        HEAD.check_targets(torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"between 0 and 4; with 4 classes .* between 0 and 3"):
        HEAD.check_targets(torch.arange(C + 1))
    with pytest.raises(ValueError, match="between -1 and 2"):
        HEAD.check_targets(torch.tensor([-1, 2]))
    HEAD.check_outputs(logits(5))
    with pytest.raises(ValueError, match=r"shape \[5\]; head 'categorical' needs \[\.\.\., 4\]"):
        HEAD.check_outputs(torch.zeros(5))


@pytest.mark.parametrize("size", [1, 0, 2.5, True])
def test_an_impossible_number_of_classes(size: object) -> None:
    with pytest.raises(ConfigError, match=rf"num_classes={size}; it must be an integer of at .* 2"):
        CategoricalHead(size)  # type: ignore[arg-type]
