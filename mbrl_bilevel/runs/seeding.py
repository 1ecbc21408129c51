"""Seeds derived from one another, and the state of random generators."""

import hashlib
import operator
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbrl_bilevel.errors import CheckpointError, ConfigError


def derive_seed(seed: int, *stream: int | str) -> int:
    """Seed of the stream called `stream`, independent of all other streams of the same `seed`.

    The same on every machine and in every process: `derive_seed(0, "env", 3)`.

    Args:
        seed: the run's seed, any integer >= 0.
        stream: the name of the stream; `1` and `"1"` are different names.

    Returns:
        An integer in [0, 2**32).

    Raises:
        ConfigError: `seed` is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed: {seed}; allowed: integers >= 0")
    spawn_key = [word for part in stream for word in _stable_words(part)]
    sequence = np.random.SeedSequence(operator.index(seed), spawn_key=spawn_key)
    return int(sequence.generate_state(1, np.uint32)[0])


def _stable_words(part: int | str) -> list[int]:
    """Four 32-bit words for one part of a stream's name (`hash()` differs between processes)."""
    # A fixed number of words for each part keeps (1, 23) and (12, 3) apart.
    name = f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}"
    digest = hashlib.sha256(name.encode()).digest()
    return [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)]


def seed_everything(seed: int) -> None:
    """Seed the global generators of random, NumPy and torch (all devices).

    This project draws from generators handed in; third-party code draws from the global ones.

    Raises:
        ConfigError: `seed` is negative.
    """
    random.seed(derive_seed(seed, "random"))
    np.random.seed(derive_seed(seed, "numpy"))  # noqa: NPY002 - the global one is the point here
    torch.manual_seed(derive_seed(seed, "torch"))


def capture_rng_state() -> dict[str, Any]:
    """State of the global generators of random, NumPy and torch, as `state_io` can store it."""
    state: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - see seed_everything
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Put the global generators back to what `capture_rng_state` returned.

    CUDA states are left out for devices that this machine does not have.
    """
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 - see seed_everything
    torch.set_rng_state(state["torch"].cpu())
    for device, cuda_state in zip(
        range(torch.cuda.device_count()), state.get("cuda", []), strict=False
    ):
        torch.cuda.set_rng_state(cuda_state.cpu(), device)


def generator_state(gen: torch.Generator | np.random.Generator) -> Tensor | dict[str, Any]:
    """State of one generator, as `state_io` can store it; later draws do not change it."""
    if isinstance(gen, torch.Generator):
        return gen.get_state()
    return dict(gen.bit_generator.state)


def set_generator_state(
    gen: torch.Generator | np.random.Generator, state: Tensor | Mapping[str, Any]
) -> None:
    """Make `gen` continue where the generator of `generator_state` stood.

    Raises:
        CheckpointError: the state is that of another kind of generator (PCG64 and MT19937,
            NumPy and torch, CPU and CUDA).
    """
    try:
        if isinstance(gen, torch.Generator) and isinstance(state, Tensor):
            gen.set_state(state.cpu())
            return
        if isinstance(gen, np.random.Generator) and isinstance(state, Mapping):
            gen.bit_generator.state = dict(state)
            return
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the stored state does not fit {_kind(gen)}: {error}") from error
    raise CheckpointError(f"the stored state ({type(state).__name__}) does not fit {_kind(gen)}")


def _kind(gen: torch.Generator | np.random.Generator) -> str:
    if isinstance(gen, torch.Generator):
        return f"a torch generator on {gen.device}"
    return f"a NumPy generator on {type(gen.bit_generator).__name__}"
