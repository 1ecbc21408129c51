"""What particles get along their way, added up some steps at a time."""

import torch
from torch import Tensor

from mbrl_agents.outcomes import Outcomes
from mbrl_bilevel.dynamics import TerminationClassifier

BLOCK_NUMBERS = 2**18
"""Steps are kept until their observations hold so many numbers (a megabyte)."""


class Score:
    """The mean return of P particles for each of N plans, from the steps they take.

    Rewards and terminations are functions of a step alone: those of many steps are computed in one
    call, as for small batches the calls are what costs. Rewards count up to and including the step
    that terminates.

    Args:
        outcomes: What steps pay, and where they end.
        termination: The model's classifier, if it has one.
        discount: Weight of a reward one step later.
    """

    def __init__(
        self, outcomes: Outcomes, termination: TerminationClassifier | None, discount: float
    ) -> None:
        self._outcomes = outcomes
        self._termination = termination
        self._discount = discount
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._learned: list[Tensor] = []
        self._particles: list[Tensor] = []
        self._num_counted = 0
        self._total: Tensor | None = None
        self._alive: Tensor | None = None  # before anything has ended; particles in their order

    def add(
        self,
        obs: Tensor,
        action: Tensor,
        next_obs: Tensor,
        learned_reward: Tensor | None,
        particles: Tensor | None,
    ) -> None:
        """Take in a step.

        Args:
            obs: `[P, N, D_obs]`.
            action: Action features `[P, N, A]`.
            next_obs: `[P, N, D_obs]`.
            learned_reward: The model's, `[P, N]`, if it has any.
            particles: Which particle is in which row, `[P]`; None: each in its own.
        """
        self._steps.append((obs, action, next_obs))
        if learned_reward is not None:
            self._learned.append(learned_reward)
        if particles is not None:
            self._particles.append(particles)
        if len(self._steps) * obs.numel() >= BLOCK_NUMBERS:
            self._count()

    def mean(self, final_value: Tensor | None, particles: Tensor | None) -> Tensor:
        """Return the mean return, `[N]`.

        Args:
            final_value: What the rows' last states are worth, `[P, N]`, discounted as if they were
                in the first; counted unless the particle has ended. None: nothing.
            particles: Which particle is in which row at the end, as in `add`.
        """
        self._count()
        assert self._total is not None, "no step was taken"
        if final_value is None:
            return self._total
        value = self._discount**self._num_counted * final_value
        if self._alive is not None:
            alive = self._alive if particles is None else self._alive[particles]
            value = torch.where(alive, value, 0.0)
        return self._total + value.mean(dim=0)

    def _count(self) -> None:
        if not self._steps:
            return
        obs, action, next_obs = (_stacked(each) for each in zip(*self._steps, strict=True))
        learned = _stacked(self._learned) if self._learned else None
        gain = self._outcomes.reward(obs, action, next_obs, learned)
        ended = self._outcomes.terminated(obs, action, next_obs, self._termination)
        if self._discount != 1:
            first, last = self._num_counted, self._num_counted + len(obs)
            weights = self._discount ** torch.arange(first, last, device=gain.device)
            gain = weights[:, None, None] * gain
        if ended is not None:
            gain = self._until_the_end(gain, ended)
        mean = gain.mean(dim=1).sum(dim=0)
        self._total = mean if self._total is None else self._total + mean
        self._num_counted += len(obs)
        self._steps, self._learned, self._particles = [], [], []

    def _until_the_end(self, gain: Tensor, ended: Tensor) -> Tensor:
        """Return gains `[T, P, N]` with those after a particle's end left out."""
        if self._particles:
            rows = torch.stack(self._particles).argsort(dim=1)[:, :, None].expand_as(gain)
            gain, ended = gain.gather(1, rows), ended.gather(1, rows)
        has_ended = ended.cumsum(dim=0) > 0
        alive = torch.cat([torch.ones_like(ended[:1]), ~has_ended[:-1]])
        if self._alive is not None:
            alive &= self._alive
        self._alive = alive[-1] & ~ended[-1]
        # Not a product: what a model predicts beyond the end may be nan.
        return torch.where(alive, gain, 0.0)


def _stacked(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return tensors as one, `[T, ...]`; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
