"""Settings of the paper's table 3: dynamics models of raw next observations."""

from typing import Annotated

from pydantic import Field

from mbrl_bilevel.config.base import (
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
)
from mbrl_bilevel.config.dataset import DatasetConfig
from mbrl_bilevel.config.fit import SplitConfig


class Table3Config(StrictConfig):
    """Test error and likelihood of each method on a dataset of recorded episodes."""

    dataset: DatasetConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="the first seed; of split, weights and everything else"
    )
    seeds: PositiveInt = Field(default=5, description="how many, counted from seed")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )
    split: SplitConfig = SplitConfig()
    max_training_steps: PositiveInt | None = Field(
        default=None, description="steps of the training episodes used at most; null: all"
    )
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[64, 64], description="width of each hidden layer"
    )
    num_updates: PositiveInt = Field(
        default=400, description="updates of the model, each on all training data"
    )
    lr: PositiveFloat = Field(default=1e-2, description="learning rate of Adam")
    cooldown: Fraction = Field(
        default=0.1,
        description="last share of the updates, over which the learning rate falls to 0",
    )
    temperature: PositiveFloat = Field(default=1.0, description="weight of the entropy (lambda)")
    initial_u: PositiveFloat = Field(
        default=1.0, description="the learned u at the start, in units of the temperature"
    )
    inner_steps: PositiveInt = Field(
        default=10, description="updates of the model before each update of the learned u"
    )
    outer_lr: PositiveFloat = Field(
        default=1.0, description="of gradient descent on log u; 2 is a Newton step at the optimum"
    )
