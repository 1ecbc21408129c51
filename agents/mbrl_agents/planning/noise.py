"""Noise that is correlated over time."""

import torch
from torch import Tensor


def colored_noise(
    num_samples: int, horizon: int, size: int, beta: float, generator: torch.Generator
) -> Tensor:
    """Return Gaussian noise `[num_samples, horizon, size]` with unit variance at every step.

    The power spectral density falls as `frequency ** -beta`: white for 0, pink for 1, red for 2.
    Drawn in the frequency domain (Timmer and König 1995), as iCEM does (Pinneri et al. 2020);
    the lowest frequency of the grid stands in for frequency zero.
    """
    if beta == 0 or horizon == 1:
        return torch.randn(num_samples, horizon, size, generator=generator)
    frequencies = torch.fft.rfftfreq(horizon).clamp_min(1 / horizon)
    scale = frequencies.pow(-beta / 2)
    real, imaginary = torch.randn(2, num_samples, size, len(scale), generator=generator)
    # The zero frequency, and the highest of an even horizon, are real: all their power is there.
    imaginary[..., 0] = 0
    real[..., 0] *= 2**0.5
    if horizon % 2 == 0:
        imaginary[..., -1] = 0
        real[..., -1] *= 2**0.5
    noise = torch.fft.irfft(torch.complex(real * scale, imaginary * scale), n=horizon, dim=-1)
    # Variance of a step: real frequencies count once, the others with their mirror image.
    weights = torch.full_like(scale, 2.0)
    weights[0] = 1.0
    if horizon % 2 == 0:
        weights[-1] = 1.0
    std = (2 * (weights * scale.square()).sum()).sqrt() / horizon
    colored: Tensor = (noise / std).transpose(1, 2)
    return colored
