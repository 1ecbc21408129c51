"""A training configuration with a small agent of its own: the core knows no other."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mbrl_bilevel.config import StrictConfig, TrainConfig
from mbrl_bilevel.config.base import PositiveInt, named


class ShootingConfig(StrictConfig):
    name: Literal["shooting"] = "shooting"
    horizon: PositiveInt = Field(default=10, description="steps of a plan")


class TreeConfig(StrictConfig):
    name: Literal["tree"] = "tree"
    depth: Annotated[int, Field(ge=1, le=9)] = Field(default=3, description="levels")


class AgentConfig(StrictConfig):
    name: Literal["toy"] = "toy"
    planner: Annotated[
        ShootingConfig | TreeConfig, Field(discriminator="name"), named("shooting")
    ] = Field(default=ShootingConfig(), description="how to plan")


class RunConfig(TrainConfig[AgentConfig]):
    pass


MINIMAL = "env: {id: Pendulum-v1}\nagent: {name: toy}\ntotal_timesteps: 100\n"


def minimal_data() -> dict[str, Any]:
    return {
        "name": "run",
        "env": {"id": "Pendulum-v1"},
        "agent": {"name": "toy"},
        "total_timesteps": 100,
    }
