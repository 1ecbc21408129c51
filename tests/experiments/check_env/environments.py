"""A sound environment, and ways to break it: each changes one thing."""

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

LENGTH = 50

Make = Callable[[], gym.Env[Any, Any]]


class Sound(gym.Env[Any, Any]):
    """A mass on a line, pushed; the cost is its distance from the middle."""

    def __init__(self) -> None:
        self.observation_space: gym.Space[Any] = spaces.Box(-100, 100, (2,), np.float32)
        self.action_space: gym.Space[Any] = spaces.Box(-1, 1, (1,), np.float32)
        self.pos = self.vel = 0.0
        self.time = 0

    def obs(self) -> Any:
        return np.array([self.pos, self.vel], np.float32)

    def reward(self) -> Any:
        return -(self.pos**2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.pos, self.vel = self.np_random.uniform(-0.1, 0.1, size=2)
        self.time = 0
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        self.vel += 0.1 * float(np.ravel(action)[0])
        self.pos += 0.1 * self.vel
        self.time += 1
        return self.obs(), self.reward(), False, False, {}


class WrongDtype(Sound):
    def obs(self) -> Any:
        return super().obs().astype(np.float64)


class NarrowerDtype(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-100, 100, (2,), np.float64)


class ObsIsList(Sound):
    def obs(self) -> Any:
        return [self.pos, self.vel]


class ObsHasWrongShape(Sound):
    def obs(self) -> Any:
        return super().obs()[:, None]


class ObsBecomesNaN(Sound):
    def obs(self) -> Any:
        return np.array([self.pos, np.nan if self.time == 3 else self.vel], np.float32)


class ObsLeavesItsSpace(Sound):
    def obs(self) -> Any:
        return np.array([self.pos, 101.5 if self.time == 4 else self.vel], np.float32)


class ObsRoundedOutside(Sound):
    def obs(self) -> Any:
        last = 100.00001 if self.time == 4 else self.vel
        return np.array([self.pos, last], np.float32)


class ObsReused(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.array = np.zeros(2, np.float32)

    def obs(self) -> Any:
        self.array[:] = self.pos, self.vel
        return self.array


class RewardIsNaN(Sound):
    def reward(self) -> Any:
        return float("nan") if self.time == 7 else super().reward()


class RewardIsArray(Sound):
    def reward(self) -> Any:
        return np.array([super().reward()])


class FlagIsInt(Sound):
    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, 0, truncated, info


class InfoIsNone(Sound):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], None


class ActionModified(Sound):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        action *= 0.5
        return result


class ResetRaises(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        raise RuntimeError("no simulator here")


class ResetReturnsObsOnly(Sound):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


class StepRaises(Sound):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        if self.time == 5:
            raise ValueError("too far")
        return result


class StepReturnsFour(Sound):
    def step(self, action: Any) -> Any:
        return super().step(action)[:4]


class GlobalStart(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.pos = np.random.uniform(-0.1, 0.1)  # noqa: NPY002 (the fault)
        return self.obs(), {}


class SampledStart(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.pos = 0.01 * self.observation_space.sample()[0]
        return self.obs(), {}


class NoisyStep(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng()

    def step(self, action: Any) -> Any:
        self.vel += 0.01 * self.generator.normal()
        return super().step(action)


class StepRemembers(Sound):
    """What is left of the last episode changes the next."""

    def reset(self, **kwargs: Any) -> Any:
        left = self.vel
        super().reset(**kwargs)
        self.vel += 0.1 * left
        return np.array([self.pos, 0.0], np.float32), {}


class InstancesDiffer(Sound):
    count = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.mass = 1.0 + next(self.count)

    def step(self, action: Any) -> Any:
        return super().step(np.asarray(action) / self.mass)


class OneStart(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.pos, self.vel = 0.1, 0.0
        return self.obs(), {}


class Ends(Sound):
    """Terminates far from the middle, and pays nothing then."""

    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        is_out = abs(self.pos) > 0.3
        return obs, 0.0 if is_out else reward, is_out, truncated, info


class PaysAfterTheEnd(Ends):
    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, -abs(self.pos), terminated, truncated, info


class BothFlags(Ends):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, terminated, info


class TerminatedByTime(Sound):
    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        is_over = self.time >= 40
        return obs, 0.0 if is_over else reward, is_over, truncated, info


class Images(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def obs(self) -> Any:
        return np.full((8, 8, 3), int(self.pos * 1e4) % 255, np.uint8)


class Table(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-100, 100, (2, 2), np.float32)

    def obs(self) -> Any:
        return np.outer(super().obs(), [1, 2]).astype(np.float32)


class Numbered(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Discrete(100)

    def obs(self) -> Any:
        return np.int64(np.clip(50 + 100 * self.pos, 0, 99))


class InParts(Sound):
    def __init__(self) -> None:
        super().__init__()
        part = spaces.Box(-100, 100, (1,), np.float32)
        self.observation_space = spaces.Dict({"pos": part, "vel": part})

    def obs(self) -> Any:
        return {"pos": np.array([self.pos], np.float32), "vel": np.array([self.vel], np.float32)}


class PartOutside(InParts):
    def obs(self) -> Any:
        return super().obs() | {"vel": np.array([101.5], np.float32)}


class InTwo(InParts):
    def __init__(self) -> None:
        super().__init__()
        part = spaces.Box(-100, 100, (1,), np.float32)
        self.observation_space = spaces.Tuple([part, part])

    def obs(self) -> Any:
        return tuple(super().obs().values())


class PartIsImage(InParts):
    def __init__(self) -> None:
        super().__init__()
        image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
        self.observation_space = spaces.Dict({"pos": image, "camera": image})

    def obs(self) -> Any:
        image = np.full((8, 8, 3), int(self.pos * 1e4) % 255, np.uint8)
        return {"pos": image, "camera": image.copy()}


class OfAnySize(InParts):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict({"list": spaces.Sequence(spaces.Discrete(3))})

    def obs(self) -> Any:
        return {"list": (np.int64(1), np.int64(2))}


class UnboundedActions(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class ManyActions(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.MultiDiscrete([3, 3])


class NoSpace(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = None  # type: ignore[assignment]


class Wide(Sound):
    """Three observations instead of two."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-1e9, 1e9, (3,), np.float64)

    def third(self) -> float:
        raise NotImplementedError

    def obs(self) -> Any:
        return np.array([self.pos, self.vel, self.third()])


class Constant(Wide):
    def third(self) -> float:
        return 3.0


class Redundant(Wide):
    def third(self) -> float:
        return self.pos


class Scales(Wide):
    def third(self) -> float:
        return 1e6 * self.pos


class Imprecise(Wide):
    def third(self) -> float:
        return 1e8 + self.time % 5


class Angle(Wide):
    """Turns by 0.2 rad a step, wrapped to -pi to pi."""

    def third(self) -> float:
        return float((0.2 * self.time + 3.0 + np.pi) % (2 * np.pi) - np.pi)


class Blinks(Wide):
    """Jumps at every other step: no smooth motion that is wrapped."""

    def third(self) -> float:
        return float(self.time % 2)


class Frozen(Sound):
    def obs(self) -> Any:
        scale = 12.0  # the position in coarse steps: it seldom changes
        return np.array([round(self.pos * scale) / scale, 0.1], np.float32)


class CloseRaises(Sound):
    def close(self) -> None:
        raise RuntimeError("cannot close")


class RewardIsConstant(Sound):
    def reward(self) -> Any:
        return 1.0


class PositionOnly(Sound):
    """The velocity is not observed."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-100, 100, (1,), np.float32)

    def obs(self) -> Any:
        return np.array([self.pos], np.float32)


class RewardCounts(Sound):
    """The reward grows with time, which is not observed."""

    def reward(self) -> Any:
        return float(self.time)


class SeedIsOptional(Sound):
    """Gymnasium's checker warns of a seed's default."""

    def reset(
        self,
        *,
        seed: int | None = 1,
        options: dict[str, Any] | None = None,
    ) -> Any:
        return super().reset(seed=seed, options=options)


def limited(cls: type[gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    """An environment of a class, with a time limit."""
    return TimeLimit(cls(), LENGTH)
