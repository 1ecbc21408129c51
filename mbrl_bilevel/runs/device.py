"""Which device a run computes on."""

from typing import Literal

import torch

from mbrl_bilevel.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


def resolve_device(name: DeviceName) -> torch.device:
    """Turn a configured device into a torch device; `auto` is CUDA where there is one.

    Raises:
        ConfigError: `name` is unknown, or CUDA is asked for and torch finds none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: {name!r}; allowed: 'auto', 'cpu', 'cuda'")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise ConfigError("device: 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    return torch.device("cpu")
