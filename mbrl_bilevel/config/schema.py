"""The configuration of a training run. The agent's part is the agent's own (`agent.name`)."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, field_validator

from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
)
from mbrl_bilevel.config.objectives import BilevelConfig, ObjectiveConfig

OptimizerName = Literal["adamw", "soap"]
ScheduleName = Literal["constant", "one_cycle"]
Precision = Literal["auto", "float32", "bfloat16"]


FIXED_DECAY = 1e-4
"""Weight decay of objectives that know nothing of the task, unless one says otherwise."""


class EnvConfig(StrictConfig):
    """The environment."""

    id: str = Field(description="Gymnasium id, or module:Id to import the module that registers it")
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of gymnasium.make"
    )


class ModelConfig(StrictConfig):
    """The Gaussian ensemble and how one fit of it runs."""

    ensemble_size: PositiveInt = Field(default=5, description="members E")
    num_elite_members: PositiveInt | None = Field(
        default=None, description="members used after a fit, the best on held-out data; null: all"
    )
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[128, 128, 128], description="width of each hidden layer"
    )
    optimizer: OptimizerName = Field(
        default="adamw", description="soap: Adam in the eigenbasis of the gradients' covariances"
    )
    lr: PositiveFloat = Field(default=1e-3, description="learning rate")
    lr_schedule: ScheduleName = Field(
        default="constant",
        description="one_cycle: up over the first 30% of the updates of a fit, then down to zero",
    )
    weight_decay: NonNegativeFloat | Literal["auto", "learned"] = Field(
        default="auto",
        description="decoupled weight decay; learned: a rate for each observed input, by "
        "hypergradients of the held-out score; auto: learned where the objective is bilevel with "
        f"outer: return and the task says which errors count, else {FIXED_DECAY}",
    )
    precision: Precision = Field(
        default="float32",
        description="of the products in training; auto: bfloat16 where the processor gains by it",
    )
    clip_to_data: bool = Field(
        default=False,
        description="hold predictions to what the training data had: inputs and variances",
    )
    own_predictions: Fraction = Field(
        default=0.0,
        description="share of a batch that is seen from the model's own predictions, in the last "
        "30% of the updates: for rollouts of many steps",
    )
    batch_size: PositiveInt = Field(default=64, description="transitions per member in an update")
    num_updates: PositiveInt = Field(default=600, description="updates in one fit, at most")
    eval_every: PositiveInt = Field(
        default=50, description="updates between two held-out evaluations"
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="weights of a fit: each member's best on held-out data, or last"
    )
    patience: PositiveInt = Field(
        default=6, description="held-out evaluations without progress that end a fit"
    )
    held_out_fraction: OpenFraction = Field(
        default=0.2, description="share of transitions kept for the outer problem"
    )

    @field_validator("num_elite_members")
    @classmethod
    def _no_more_than_members(cls, value: int | None, info: Any) -> int | None:
        members = info.data.get("ensemble_size")
        if value is not None and members is not None and value > members:
            raise ValueError(f"at most model.ensemble_size={members}")
        return value


class EvalConfig(StrictConfig):
    """Evaluation of the agent."""

    episodes: PositiveInt = Field(default=20, description="episodes of the final evaluation")
    every: NonNegativeInt = Field(
        default=0, description="environment steps between two evaluations in training; 0: none"
    )
    every_episodes: PositiveInt = Field(
        default=5, description="episodes of an evaluation during training"
    )
    video: bool = Field(default=True, description="record the last episode of the final evaluation")


class CheckpointConfig(StrictConfig):
    """Checkpoints, from which --resume goes on."""

    every: PositiveInt = Field(default=200, description="environment steps between two checkpoints")
    keep: PositiveInt = Field(default=2, description="newest checkpoints that are kept")


AgentConfigT = TypeVar("AgentConfigT", bound=StrictConfig)


class TrainConfig(StrictConfig, Generic[AgentConfigT]):
    """A training run."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")] = Field(
        description="names the folder of the runs; the file's name by default"
    )
    env: EnvConfig
    agent: AgentConfigT
    objective: ObjectiveConfig = Field(
        default=BilevelConfig(), description="a name, or a mapping with name and settings"
    )
    model: ModelConfig = ModelConfig()
    total_timesteps: PositiveInt = Field(description="environment steps of the run")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="reproduces the run bit for bit on one machine"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where tensors live")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
