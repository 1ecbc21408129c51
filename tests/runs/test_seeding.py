import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mbrl_bilevel.errors import CheckpointError, ConfigError
from mbrl_bilevel.runs.checkpoint import load_checkpoint, save_checkpoint
from mbrl_bilevel.runs.seeding import (
    capture_rng_state,
    derive_seed,
    generator_state,
    restore_rng_state,
    seed_everything,
    set_generator_state,
)

STREAMS: list[tuple[int | str, ...]] = [
    (),
    ("env",),
    ("env", 0),
    ("env", 1),
    (0, "env"),
    (0,),
    ("0",),
    (1, 23),
    (12, 3),
    (2**32,),
    (0, 1),
    (-1,),
    ("env0",),
]

PINNED = [2968811710, 2916108989, 3769457554]


def draw_global() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.standard_normal(),  # noqa: NPY002 - the global generator is under test
        torch.rand(()).item(),
    ]


def test_streams_and_seeds_differ() -> None:
    seeds = [derive_seed(seed, *stream) for seed in (0, 1, 2**40) for stream in STREAMS]
    assert len(set(seeds)) == len(seeds)
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)


def test_streams_are_the_same_in_every_process() -> None:
    # Fixed numbers: a change here changes every published run. Strings are hashed by hash() with
    # another salt in each process, so a second process is asked as well.
    here = [derive_seed(0), derive_seed(0, "env", 3), derive_seed(1, "model")]
    assert here == PINNED
    code = (
        "from mbrl_bilevel.runs.seeding import derive_seed as d;"
        "print(d(0), d(0, 'env', 3), d(1, 'model'))"
    )
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert there.stdout.split() == [str(seed) for seed in here]


def test_numpy_integers_name_the_same_stream() -> None:
    assert derive_seed(int(np.int64(3)), "a", 2) == derive_seed(3, "a", 2)
    assert derive_seed(np.int64(3), "a", np.int64(2)) == derive_seed(3, "a", 2)  # type: ignore[arg-type]


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="seed: -1; allowed: integers >= 0"):
        derive_seed(-1)
    with pytest.raises(ConfigError, match="seed: -1"):
        seed_everything(-1)


@pytest.fixture
def _keep_global_state():  # type: ignore[no-untyped-def]
    state = capture_rng_state()
    yield
    restore_rng_state(state)


@pytest.mark.usefixtures("_keep_global_state")
@pytest.mark.parametrize("seed", [0, 2**32 + 1])
def test_seed_everything(seed: int) -> None:
    seed_everything(seed)
    first = draw_global()
    assert draw_global() != first
    seed_everything(seed)
    assert draw_global() == first
    seed_everything(seed + 1)
    assert not set(draw_global()) & set(first)


@pytest.mark.usefixtures("_keep_global_state")
def test_global_state_through_a_checkpoint(tmp_path: Path) -> None:
    seed_everything(3)
    draw_global()  # leaves a cached Gaussian behind in random and NumPy
    save_checkpoint(tmp_path / "c", capture_rng_state())
    expected = [draw_global() for _ in range(3)]
    seed_everything(4)
    restore_rng_state(load_checkpoint(tmp_path / "c"))
    assert [draw_global() for _ in range(3)] == expected


@pytest.mark.usefixtures("_keep_global_state")
def test_a_cuda_state_is_left_out_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    restore_rng_state({**capture_rng_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)]})


def test_torch_generator_through_a_checkpoint(tmp_path: Path) -> None:
    gen = torch.Generator().manual_seed(1)
    torch.randn(3, generator=gen)
    save_checkpoint(tmp_path / "c", {"gen": generator_state(gen)})
    expected = torch.randn(5, generator=gen)
    other = torch.Generator()
    set_generator_state(other, load_checkpoint(tmp_path / "c")["gen"])
    assert torch.equal(torch.randn(5, generator=other), expected)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generator_through_a_checkpoint(tmp_path: Path, kind: str) -> None:
    make = getattr(np.random, kind)
    gen = np.random.Generator(make(1))
    gen.integers(0, 10, dtype=np.int32)  # leaves half a 64-bit word behind
    state = generator_state(gen)
    save_checkpoint(tmp_path / "c", {"gen": state})
    expected = gen.integers(0, 1000, 7, dtype=np.int32)
    other = np.random.Generator(make(2))
    set_generator_state(other, load_checkpoint(tmp_path / "c")["gen"])
    np.testing.assert_array_equal(other.integers(0, 1000, 7, dtype=np.int32), expected)
    set_generator_state(other, state)  # still the state at the time it was asked for
    np.testing.assert_array_equal(other.integers(0, 1000, 7, dtype=np.int32), expected)


def test_a_state_of_another_kind_is_refused() -> None:
    numpy_gen = np.random.default_rng(0)
    torch_gen = torch.Generator()
    with pytest.raises(CheckpointError, match="does not fit a NumPy generator on PCG64"):
        set_generator_state(numpy_gen, generator_state(np.random.Generator(np.random.SFC64(0))))
    with pytest.raises(CheckpointError, match="does not fit a NumPy generator on PCG64"):
        set_generator_state(numpy_gen, generator_state(torch_gen))
    with pytest.raises(CheckpointError, match="does not fit a torch generator on cpu"):
        set_generator_state(torch_gen, generator_state(numpy_gen))
    with pytest.raises(CheckpointError, match="does not fit a torch generator on cpu"):
        set_generator_state(torch_gen, torch.zeros(16, dtype=torch.uint8))
