"""The configuration of `mbrl-bilevel fit`: dynamics models on recorded episodes, compared."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
)
from mbrl_bilevel.config.dataset import DatasetConfig
from mbrl_bilevel.config.load import validate
from mbrl_bilevel.config.objectives import BilevelConfig, ObjectiveConfig
from mbrl_bilevel.config.schema import ModelConfig, OptimizerName, Precision, ScheduleName

OWN_PREDICTIONS = 0.25
"""Share of a batch, for the bilevel objective: a little of the error one step ahead is given for
much of that many steps ahead."""

FIT_REWARD = "state_dependent"
"""Of the bilevel objective, unless one says otherwise: recorded data is enough for it."""


class SplitConfig(StrictConfig):
    """Shares of the episodes; each seed deals them out anew."""

    training: OpenFraction = Field(default=0.7, description="episodes of the inner problem")
    held_out: OpenFraction = Field(
        default=0.15,
        description="of the outer problem, and of model.keep=best",
    )
    test: OpenFraction = Field(default=0.15, description="that every metric is computed on")
    max_judged_steps: PositiveInt = Field(
        default=50_000,
        description="steps of the held-out episodes used at most, and of the test episodes",
    )

    @model_validator(mode="after")
    def _add_up(self) -> "SplitConfig":
        if not math.isclose(sum(self.fractions), 1.0):
            raise ValueError(
                f"training, held_out and test add up to {sum(self.fractions):g}, and must to 1"
            )
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Training, held-out, test."""
        return self.training, self.held_out, self.test


class FitModelConfig(StrictConfig):
    """The Gaussian ensemble and its training, the same for every objective."""

    ensemble_size: PositiveInt = Field(default=5, description="members E; 1: a single model")
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[128, 128, 128], description="width of each hidden layer"
    )
    head: Literal["diagonal", "full"] = Field(
        default="diagonal",
        description="covariances; full: of each member's held-out residuals around its variances",
    )
    optimizer: OptimizerName | Literal["auto"] = Field(
        default="auto",
        description="auto: the objective's own, soap for bilevel and adamw for the others",
    )
    lr: PositiveFloat = Field(default=1e-2, description="highest learning rate")
    lr_schedule: ScheduleName = Field(
        default="one_cycle", description="up over the first 30% of the updates, then down to zero"
    )
    weight_decay: NonNegativeFloat = Field(default=1e-4, description="decoupled weight decay")
    precision: Precision = Field(
        default="float32",
        description="of the products in training; auto: bfloat16 where the processor gains by it",
    )
    clip_to_data: bool = Field(
        default=True,
        description="hold open loops to what the training data had: inputs and variances",
    )
    own_predictions: Fraction | Literal["auto"] = Field(
        default="auto",
        description="share of a batch that is seen from the model's own predictions, in the last "
        f"30% of the updates; auto: {OWN_PREDICTIONS} for bilevel, 0 for the others",
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="weights: the last, or each member's best on held-out data"
    )
    batch_size: PositiveInt = Field(default=512, description="transitions per member in an update")
    num_updates: PositiveInt = Field(default=2000, description="updates, whatever the objective")
    eval_every: PositiveInt = Field(
        default=250, description="updates between two held-out evaluations"
    )

    def to_model_config(self, objective: ObjectiveConfig) -> ModelConfig:
        """Return the same as the trainer takes it, with a patience that never runs out."""
        settings = self.model_dump(exclude={"head"})
        is_bilevel = isinstance(objective, BilevelConfig)
        if self.optimizer == "auto":
            settings["optimizer"] = "soap" if is_bilevel else "adamw"
        if self.own_predictions == "auto":
            settings["own_predictions"] = OWN_PREDICTIONS if is_bilevel else 0.0
        return ModelConfig(**settings, patience=self.num_updates + 1)


class OpenLoopConfig(StrictConfig):
    """Predictions many steps ahead on test episodes."""

    ks: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[1, 5, 20, 50], description="how many steps ahead"
    )
    num_particles: Annotated[int, Field(ge=39)] = Field(
        default=40, description="particles of a prediction; fewer cannot cover 95%"
    )
    num_windows: PositiveInt = Field(default=200, description="starts, spread over the episodes")

    @field_validator("ks")
    @classmethod
    def _no_repeats(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("name each k once")
        return value


class FitConfig(StrictConfig):
    """Dynamics models fitted to a dataset by several objectives, over several seeds."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")] = Field(
        description="names the folder of the runs; the file's name by default"
    )
    dataset: DatasetConfig
    objective: Annotated[list[ObjectiveConfig], Field(min_length=1)] = Field(
        description="a name, a mapping with name and settings (see below), or a list of those"
    )
    seeds: PositiveInt = Field(default=5, description="how many, counted from seed")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="the first seed; of split, weights, batches and everything else"
    )
    split: SplitConfig = SplitConfig()
    model: FitModelConfig = FitModelConfig()
    open_loop: OpenLoopConfig = OpenLoopConfig()
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where tensors live")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )

    @field_validator("objective")
    @classmethod
    def _no_twins(cls, value: list[Any]) -> list[Any]:
        if any(value.count(objective) > 1 for objective in value):
            raise ValueError("name each objective once; two of one name must differ in settings")
        return value

    @property
    def labels(self) -> list[str]:
        """What the objectives are called: by name, and by their settings where two share one."""
        counts = Counter(objective.name for objective in self.objective)
        return [
            objective.name if counts[objective.name] == 1 else _detailed_label(objective)
            for objective in self.objective
        ]


class _OneObjective(StrictConfig):
    """An objective by itself: errors name its keys, without a place in a list."""

    objective: ObjectiveConfig


def fit_config(data: Mapping[str, Any]) -> FitConfig:
    """Return the configuration that `data` (from `load_data`) describes.

    Raises:
        ConfigError: A key is unknown, or a value impossible.
    """
    expanded = dict(data)
    if "objective" in expanded:
        given = expanded["objective"]
        items = given if isinstance(given, list) else [given]
        objectives = [validate(_OneObjective, {"objective": item}).objective for item in items]
        expanded["objective"] = [_settled(objective).model_dump() for objective in objectives]
    return validate(FitConfig, expanded)


def _settled(objective: ObjectiveConfig) -> ObjectiveConfig:
    """The same with a reward that is settled on."""
    if isinstance(objective, BilevelConfig) and objective.reward == "auto":
        return objective.model_copy(update={"reward": FIT_REWARD})
    return objective


def _detailed_label(objective: StrictConfig) -> str:
    """`bilevel` with its settings as they are by default, else `bilevel-reward=scalar`."""
    settings = objective.model_dump()
    defaults = type(objective)().model_dump()
    if isinstance(objective, BilevelConfig):
        defaults["reward"] = FIT_REWARD
    changed = [f"{key}={value}" for key, value in settings.items() if value != defaults[key]]
    return "-".join([settings["name"], *changed])
