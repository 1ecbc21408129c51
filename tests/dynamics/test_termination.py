"""The learned termination function."""

import torch
from torch import Tensor

from mbrl_bilevel.dynamics import TerminationClassifier
from tests.dynamics.cases import generator

Batch = tuple[Tensor, Tensor, Tensor]


def transitions(count: int, seed: int = 0) -> Batch:
    """Observations `[N, 2]`, action features `[N, 1]`, next observations `[N, 2]`."""
    noise = torch.randn(count, 5, generator=generator(seed))
    obs = noise[:, :2] * torch.tensor([1.0, 20.0])
    return obs, noise[:, 2:3].tanh(), obs + 0.3 * noise[:, 3:]


def too_far(batch: Batch, limit: float) -> Tensor:
    return batch[2][:, 0].abs() > limit


def fitted(batch: Batch, terminated: Tensor, fits: int = 1, seed: int = 0) -> TerminationClassifier:
    classifier = TerminationClassifier(2, 1, generator(seed))
    optimizer = torch.optim.Adam(classifier.network.parameters(), lr=1e-3)
    draws = generator(seed + 1)
    for _ in range(fits):
        classifier.fit(*batch, terminated, optimizer, draws)
    return classifier


def test_nothing_terminates_before_a_termination_was_seen() -> None:
    batch = transitions(500)
    for terminated in (torch.zeros(500).bool(), torch.ones(500).bool()):
        classifier = fitted(batch, terminated)
        found = classifier(*batch)
        assert found.dtype == torch.bool
        assert found.shape == (500,)
        assert not found.any()


def test_a_fit_without_terminations_keeps_what_was_learned() -> None:
    batch = transitions(500)
    classifier = fitted(batch, too_far(batch, 1.0))
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    optimizer = torch.optim.Adam(classifier.network.parameters(), lr=1e-3)
    classifier.fit(*batch, torch.zeros(500).bool(), optimizer, generator())
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())


def test_it_learns_a_threshold() -> None:
    batch, fresh = transitions(2000), transitions(2000, seed=1)
    classifier = fitted(batch, too_far(batch, 1.5), fits=2)
    right = classifier(*fresh) == too_far(fresh, 1.5)
    assert right.float().mean() > 0.97


def test_it_finds_rare_terminations() -> None:
    """Half a percent: on batches of the data as they come it would never say yes."""
    batch, fresh = transitions(2000), transitions(5000, seed=1)
    terminated = too_far(batch, 2.9)
    assert 3 <= terminated.sum() <= 20
    classifier = fitted(batch, terminated, fits=2)
    clearly = too_far(fresh, 3.3)
    assert clearly.sum() >= 3
    assert classifier(*fresh)[clearly].float().mean() >= 0.8
    assert classifier(*fresh)[~too_far(fresh, 2.0)].float().mean() <= 0.01


def test_leading_dimensions_are_kept() -> None:
    batch = transitions(600)
    classifier = fitted(batch, too_far(batch, 1.0))
    found = classifier(*(part.reshape(3, 4, 50, -1) for part in batch))
    assert found.shape == (3, 4, 50)
    assert torch.equal(found.flatten(), classifier(*batch))


def test_the_same_generators_give_the_same_classifier() -> None:
    batch = transitions(300)
    terminated = too_far(batch, 1.0)
    first, again, other = (fitted(batch, terminated, seed=s).state_dict() for s in (0, 0, 5))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_its_state_holds_what_it_learned() -> None:
    batch = transitions(500)
    classifier = fitted(batch, too_far(batch, 1.0))
    restored = TerminationClassifier(2, 1, generator(9))
    restored.load_state_dict(classifier.state_dict())
    assert classifier(*batch).any()
    assert torch.equal(restored(*batch), classifier(*batch))
