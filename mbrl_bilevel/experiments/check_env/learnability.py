"""What makes the data hard to learn from: constants, scales, jumps, copies."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mbrl_bilevel.experiments.check_env.report import Finding, found
from mbrl_bilevel.experiments.check_env.vectors import EpisodeVectors

MIN_STEPS = 20
"""Fewer say nothing about the data."""
MAX_SCALE_RATIO = 1e4
MIN_LEVELS = 100
"""Steps of float32 that a typical change of an observation has to span."""
JUMP = 0.8
"""Share of a dimension's range that a jump crosses."""
SMOOTH = 0.2
"""Share of the range that three of four steps, and those around a jump, stay below."""
MIN_JUMPS = 2
TURNS = {2 * np.pi: "2 pi", 360.0: "360", 1.0: "1", 2.0: "2"}
"""What angles and phases are wrapped by."""


def check_learnability(episodes: Sequence[EpisodeVectors]) -> Iterator[Finding]:
    """Look at the observations and rewards of all episodes."""
    if sum(len(episode.rewards) for episode in episodes) < MIN_STEPS:
        return
    obs = np.concatenate([episode.obs for episode in episodes])
    changes = np.concatenate([np.diff(episode.obs, axis=0) for episode in episodes])
    constant = np.ptp(obs, axis=0) == 0
    if constant.any():
        dimensions = tuple(np.flatnonzero(constant).tolist())
        yield found(
            "obs_constant",
            f"{_listed(dimensions)} of {obs.shape[1]} never changed in {len(obs)} observations",
            dimensions=dimensions,
        )
    yield from _check_copies(obs, constant)
    yield from _check_scales(obs, changes, constant)
    yield from _check_jumps(episodes, constant)
    unchanged = float((changes == 0).all(axis=1).mean())
    if unchanged > 0.5 and not constant.all():
        yield found("obs_frozen", f"{unchanged:.0%} of {len(changes)} steps changed nothing at all")
    rewards = np.concatenate([episode.rewards for episode in episodes])
    if np.ptp(rewards) == 0:
        yield found("reward_constant", f"all {len(rewards)} rewards are {rewards[0]:.6g}")


def _check_copies(obs: NDArray[np.float64], constant: NDArray[np.bool_]) -> Iterator[Finding]:
    groups: dict[bytes, list[int]] = {}
    for index in np.flatnonzero(~constant):
        groups.setdefault(np.ascontiguousarray(obs[:, index]).tobytes(), []).append(int(index))
    copies = [group for group in groups.values() if len(group) > 1]
    if copies:
        yield found(
            "obs_redundant",
            "always equal: " + "; ".join(_listed(tuple(group)) for group in copies),
            dimensions=tuple(index for group in copies for index in group),
        )


def _check_scales(
    obs: NDArray[np.float64], changes: NDArray[np.float64], constant: NDArray[np.bool_]
) -> Iterator[Finding]:
    std = obs.std(axis=0)
    varying = np.flatnonzero(~constant)
    if varying.size > 1:
        small, large = (int(varying[pick(std[varying])]) for pick in (np.argmin, np.argmax))
        if std[large] > MAX_SCALE_RATIO * std[small]:
            yield found(
                "obs_scales",
                f"standard deviations from {std[small]:.3g} (dimension {small}) to "
                f"{std[large]:.3g} (dimension {large})",
                dimensions=(small, large),
            )
    level = np.abs(obs).max(axis=0) * np.finfo(np.float32).eps
    size = np.sqrt(np.square(changes).mean(axis=0))
    lost = np.flatnonzero((size > 0) & (size < MIN_LEVELS * level))
    if lost.size:
        index = int(lost[0])
        yield found(
            "obs_precision",
            f"dimension {index} has values up to {np.abs(obs[:, index]).max():.6g} that change by "
            f"{size[index]:.3g} in a step; float32 tells apart {level[index]:.1g} there",
            dimensions=tuple(lost.tolist()),
        )


def _check_jumps(
    episodes: Sequence[EpisodeVectors], constant: NDArray[np.bool_]
) -> Iterator[Finding]:
    """Jumps over the whole range, against the smooth motion before and after them."""
    low = np.min([episode.obs.min(axis=0) for episode in episodes], axis=0)
    high = np.max([episode.obs.max(axis=0) for episode in episodes], axis=0)
    width = np.where(constant, 1.0, high - low)
    steps = np.concatenate([np.abs(np.diff(episode.obs, axis=0)) for episode in episodes]) / width
    is_smooth = np.quantile(steps, 0.75, axis=0) < SMOOTH
    counts = np.zeros(len(width), dtype=int)
    first: dict[int, str] = {}
    for number, episode in enumerate(episodes):
        moves = np.diff(episode.obs, axis=0) / width
        before, jump, after = moves[:-2], moves[1:-1], moves[2:]
        is_jump = (
            is_smooth
            & (np.abs(jump) > JUMP)
            & (before * jump < 0)
            & (after * jump < 0)
            & (np.abs(before) < SMOOTH)
            & (np.abs(after) < SMOOTH)
        )
        counts += is_jump.sum(axis=0)
        for step, index in np.argwhere(is_jump):
            values = episode.obs[step + 1, index], episode.obs[step + 2, index]
            text = f"episode {number}, step {step + 2}: {values[0]:.4g} to {values[1]:.4g}"
            first.setdefault(int(index), text)
    for index, where in first.items():
        if counts[index] < MIN_JUMPS:
            continue
        turn = next((n for t, n in TURNS.items() if abs(width[index] - t) < 0.02 * t), None)
        guess = f"; the range is {turn}, as of a wrapped angle or phase" if turn else ""
        yield found(
            "obs_jumps",
            f"dimension {index} moves smoothly, but jumps across its range, {counts[index]} times "
            f"({where}){guess}",
            dimensions=(index,),
        )


def _listed(dimensions: tuple[int, ...], limit: int = 10) -> str:
    shown = ", ".join(map(str, dimensions[:limit]))
    more = f" and {len(dimensions) - limit} more" if len(dimensions) > limit else ""
    return f"dimension{'s' if len(dimensions) != 1 else ''} {shown}{more}"
