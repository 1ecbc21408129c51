"""Settings of the paper's figures and tables, `mbrl-bilevel reproduce`."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mbrl_bilevel.config.base import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictConfig,
)
from mbrl_bilevel.config.load import apply_override, validate
from mbrl_bilevel.config.table3 import Table3Config
from mbrl_bilevel.config.tables import Table1Config, Table2Config
from mbrl_bilevel.errors import ConfigError

SolverName = Literal["functional", "cg", "neumann", "nystrom", "unrolled"]


class CGConfig(StrictConfig):
    """Conjugate gradient."""

    ridge: NonNegativeFloat = Field(default=1e-2, description="added to the inner Hessian")
    max_steps: PositiveInt = Field(default=20, description="products with the inner Hessian")


class NeumannConfig(StrictConfig):
    """Neumann series."""

    num_terms: PositiveInt = Field(default=100, description="terms of the series")


class NystromConfig(StrictConfig):
    """Nystrom approximation."""

    rank: PositiveInt = Field(default=60, description="columns of the sketch")
    ridge: NonNegativeFloat = Field(default=1e-2, description="added to the inner Hessian")


class UnrolledConfig(StrictConfig):
    """Unrolled gradient descent."""

    num_steps: PositiveInt = Field(default=40, description="steps that are differentiated")
    lr: PositiveFloat = Field(default=1e-2, description="their size")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="of the gradient descent"
    )


class SyntheticConfig(StrictConfig):
    """What all figures share: the synthetic data of the paper's section 5.2, and the training."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="the first seed; of data, weights and everything else"
    )
    seeds: PositiveInt = Field(default=5, description="how many, counted from seed")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )
    num_inputs: Annotated[int, Field(ge=2)] = Field(default=100, description="training inputs x")
    num_draws: PositiveInt = Field(default=10, description="targets y of each training input")
    num_held_out: Annotated[int, Field(ge=2)] = Field(
        default=100, description="held-out pairs, each with an x of its own"
    )
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[64, 64], description="width of each hidden layer"
    )
    initial_u: PositiveFloat = Field(
        default=1.0, description="the reward's u at the start, in units of the temperature"
    )
    num_outer_steps: PositiveInt = Field(default=10, description="updates of the reward")
    warm_up_steps: NonNegativeInt = Field(
        default=1, description="the first of them that leave it as it is: the model comes first"
    )
    inner_steps: PositiveInt = Field(default=10, description="updates of the model before each")
    inner_lr: PositiveFloat = Field(
        default=2e-2, description="Adam's learning rate at the start; decays to 2% of it (cosine)"
    )
    outer_lr: PositiveFloat = Field(
        default=0.5, description="of gradient descent on log u; 1 is a Newton step at the optimum"
    )


class Fig1Config(SyntheticConfig):
    """Test error and likelihood against the temperature."""

    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)] = Field(
        default=[0.3, 0.53, 0.95, 1.69, 3.0], description="weights of the entropy (lambda)"
    )
    num_test: PositiveInt = Field(default=2000, description="test inputs")


class Fig2Config(SyntheticConfig):
    """Learned predictive densities beside the true one."""

    temperature: PositiveFloat = Field(default=1.0, description="weight of the entropy (lambda)")
    num_test: PositiveInt = Field(default=2000, description="test inputs")


class Fig3Config(SyntheticConfig):
    """The reward's path under each hypergradient solver."""

    seeds: PositiveInt = Field(default=1, description="how many, counted from seed")
    temperature: PositiveFloat = Field(default=1.0, description="weight of the entropy (lambda)")
    solvers: Annotated[list[SolverName], Field(min_length=1)] = Field(
        default=["functional", "cg", "neumann", "nystrom", "unrolled"],
        description="which hypergradient solvers",
    )
    all_parameters: bool = Field(
        default=False, description="solvers see the Hessian of the whole model, not its last layer"
    )
    cg: CGConfig = CGConfig()
    neumann: NeumannConfig = NeumannConfig()
    nystrom: NystromConfig = NystromConfig()
    unrolled: UnrolledConfig = UnrolledConfig()

    @field_validator("solvers")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("name each solver once")
        return value

    def solver_settings(self, name: SolverName) -> dict[str, Any]:
        """Return the settings of one solver, as `make_solver` takes them."""
        return {} if name == "functional" else getattr(self, name).model_dump()


ReproduceConfig = SyntheticConfig | Table1Config | Table2Config | Table3Config

REPRODUCE_CONFIGS: Mapping[str, type[ReproduceConfig]] = MappingProxyType(
    {
        "fig1": Fig1Config,
        "fig2": Fig2Config,
        "fig3": Fig3Config,
        "table1": Table1Config,
        "table2": Table2Config,
        "table3": Table3Config,
    }
)
"""Settings of each figure and table, by its name on the command line."""


def reproduce_config(name: str, overrides: Iterable[str] = ()) -> ReproduceConfig:
    """Return the settings of figure (or table) `name` with dotted `key=value` overrides applied.

    Raises:
        ConfigError: there is no such figure; an override is malformed, its key unknown, its value
            impossible, or a key without a default is missing.
    """
    if name not in REPRODUCE_CONFIGS:
        raise ConfigError(f"no figure {name!r}; allowed: {', '.join(REPRODUCE_CONFIGS)}")
    model = REPRODUCE_CONFIGS[name]
    # An empty section, so that the error names dataset.path where it is missing.
    data: dict[str, Any] = {"dataset": {}} if "dataset" in model.model_fields else {}
    for override in overrides:
        apply_override(data, override)
    return validate(model, data)
