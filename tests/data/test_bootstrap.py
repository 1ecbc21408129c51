"""Which rows the members of an ensemble are trained on."""

import itertools

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.data import BootstrapBatches


def batches(
    num_rows: int = 60,
    ensemble_size: int = 3,
    batch_size: int = 4,
    seed: int = 0,
    shuffle_seed: int = 0,
    count: int = 600,
) -> Tensor:
    """The first `count` batches, `[count, E, B]`."""
    generator = torch.Generator().manual_seed(shuffle_seed)
    endless = BootstrapBatches(num_rows, ensemble_size, batch_size, seed, generator)
    return torch.stack(list(itertools.islice(endless, count)))


def counts(rows: Tensor, num_rows: int) -> Tensor:
    """How often each member was shown each row, `[E, num_rows]`."""
    return torch.stack([member.flatten().bincount(minlength=num_rows) for member in rows.unbind(1)])


def samples(num_rows: int, seed: int = 0) -> list[set[int]]:
    """The distinct rows in each member's bootstrap sample."""
    shown = counts(batches(num_rows, seed=seed), num_rows)
    return [set(member.nonzero()[:, 0].tolist()) for member in shown]


def test_batches_hold_rows_for_every_member() -> None:
    found = batches()
    assert found.shape == (600, 3, 4)
    assert found.dtype == torch.int64
    assert found.min() >= 0
    assert found.max() < 60


def test_the_samples_of_the_first_rows_stay_when_rows_are_added() -> None:
    before, after = samples(40), samples(90)
    for old, new in zip(before, after, strict=True):
        assert {row for row in new if row < 40} == old
        assert max(new) >= 40


def test_members_and_seeds_differ_but_a_seed_does_not() -> None:
    first = samples(60)
    assert first == samples(60)
    different = [*first, *samples(60, seed=1)]
    for one, other in itertools.combinations(different, 2):
        assert one != other


def test_a_sample_is_a_bootstrap_sample() -> None:
    """A share of 1 - 1/e of the rows is drawn at all; within a sample, in whole multiples."""
    num_rows = 2000
    shown = counts(batches(num_rows, 2, batch_size=50, count=2000), num_rows).double()
    drawn = (shown > 0).double().mean(dim=1)
    # Three standard deviations of a share of 2000.
    assert (drawn - 0.632).abs().max() < 3 * (0.632 * 0.368 / num_rows) ** 0.5
    multiples = shown * num_rows / shown.sum(dim=1, keepdim=True)
    assert multiples.mean() == pytest.approx(1.0)
    # Poisson(1): a variance of 1, where drawing every row once would have 0.
    assert (multiples.var(dim=1) - 1).abs().max() < 0.2


def test_a_single_member_sees_every_row_once_an_epoch() -> None:
    found = batches(num_rows=20, ensemble_size=1, batch_size=5, count=8)
    for epoch in (found[:4], found[4:]):
        assert sorted(epoch.flatten().tolist()) == list(range(20))
    assert found[:4].tolist() != found[4:].tolist()


def test_an_incomplete_last_batch_is_left_out() -> None:
    found = batches(num_rows=7, ensemble_size=1, batch_size=3, count=2)
    assert len(set(found.flatten().tolist())) == 6


def test_the_generator_shuffles_and_the_members_apart() -> None:
    assert torch.equal(batches(), batches())
    assert not torch.equal(batches(), batches(shuffle_seed=1))
    full = batches(num_rows=50, ensemble_size=2, batch_size=1)
    assert not torch.equal(full[:, 0], full[:, 1])


@pytest.mark.parametrize("num_rows", [1, 2, 3])
@pytest.mark.parametrize("ensemble_size", [1, 5])
def test_batches_are_no_larger_than_the_smallest_sample(num_rows: int, ensemble_size: int) -> None:
    for seed in range(5):
        found = batches(num_rows, ensemble_size, batch_size=64, seed=seed, count=3)
        assert found.shape[:2] == (3, ensemble_size)
        assert 1 <= found.shape[2] <= 4 * num_rows
        assert found.max() < num_rows
