"""The configuration of `mbrl-bilevel collect`: a dataset recorded with a policy."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mbrl_bilevel.config.base import NonNegativeInt, PositiveInt, StrictConfig, named
from mbrl_bilevel.config.dataset import is_dataset_id
from mbrl_bilevel.config.schema import EnvConfig

SB3Algorithm = Literal["a2c", "ddpg", "dqn", "ppo", "sac", "td3"]


def _deterministic() -> Any:
    return Field(default=False, description="take the policy's best action instead of drawing one")


class RandomPolicyConfig(StrictConfig):
    """Actions drawn uniformly."""

    name: Literal["random"] = Field(default="random", description="which policy")


class SB3PolicyConfig(StrictConfig):
    """A policy of Stable-Baselines3, loaded from `path`, or trained for `train_steps`."""

    name: Literal["sb3"] = Field(default="sb3", description="which policy")
    algorithm: SB3Algorithm = Field(default="sac", description="by what it was or will be trained")
    path: str | None = Field(
        default=None, description="saved policy (.zip; runs code when loaded: trust its source)"
    )
    train_steps: NonNegativeInt = Field(
        default=0, description="environment steps to train a new policy for, without a path"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the algorithm, to train with"
    )
    deterministic: bool = _deterministic()

    @model_validator(mode="after")
    def _loaded_or_trained(self) -> "SB3PolicyConfig":
        if (self.path is None) == (self.train_steps == 0):
            raise ValueError("give either a path, or train_steps of at least 1")
        if self.path is not None and self.settings:
            raise ValueError("settings are for training; a saved policy has its own")
        return self


class AgentPolicyConfig(StrictConfig):
    """An agent of this project: the newest checkpoint of a run."""

    name: Literal["agent"] = Field(default="agent", description="which policy")
    run: str = Field(min_length=1, description="the run's folder")
    deterministic: bool = _deterministic()


PolicyConfig = Annotated[
    RandomPolicyConfig | SB3PolicyConfig | AgentPolicyConfig,
    Field(discriminator="name"),
    named("random"),
]


class NewDatasetConfig(StrictConfig):
    """The dataset to write."""

    id: str = Field(description="Minari id of the dataset, namespace/name-v0")
    root: str | None = Field(
        default=None, description="folder of the datasets; null: Minari's (MINARI_DATASETS_PATH)"
    )

    @field_validator("id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if not is_dataset_id(value):
            raise ValueError(
                "a Minari id is of letters, digits, - and _, in parts divided by /, the first of "
                "at least two, and ends in its version: namespace/name-v0"
            )
        return value


class CollectConfig(StrictConfig):
    """A dataset recorded with a policy."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")] = Field(
        description="the file's name by default"
    )
    env: EnvConfig
    policy: PolicyConfig = Field(
        default=RandomPolicyConfig(), description="a name, or a mapping with name and settings"
    )
    dataset: NewDatasetConfig
    episodes: PositiveInt = Field(description="how many to record")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="reproduces every episode on one machine"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where tensors live")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )
