"""Settings of the objectives that a dynamics model can be trained with."""

from typing import Annotated, Literal

from pydantic import Field

from mbrl_bilevel.config.base import Fraction, PositiveFloat, PositiveInt, StrictConfig, named


class MSEConfig(StrictConfig):
    """Mean squared error; one constant variance a dimension, from held-out residuals."""

    name: Literal["mse"] = Field(default="mse", description="which objective")


class NLLConfig(StrictConfig):
    """Gaussian negative log-likelihood."""

    name: Literal["nll"] = Field(default="nll", description="which objective")


class BetaNLLConfig(StrictConfig):
    """beta-NLL (Seitzer et al. 2022): NLL weighted by the detached variance to the power beta."""

    name: Literal["beta_nll"] = Field(default="beta_nll", description="which objective")
    beta: Fraction = Field(
        default=0.5, description="0 is NLL, 1 gives the mean the gradient of MSE"
    )


class PGConfig(StrictConfig):
    """Entropy-regularised policy gradient on a Mahalanobis reward with a fixed matrix U."""

    name: Literal["pg"] = Field(default="pg", description="which objective")
    precision: Literal["identity", "trace", "full"] = Field(
        default="identity",
        description="U: I, or by the mean variance or the whole covariance of the targets",
    )
    temperature: PositiveFloat = Field(
        default=1.0,
        description="weight of the entropy (the paper's lambda); matters to identity alone",
    )


class BilevelConfig(StrictConfig):
    """Entropy-regularised policy gradient on a reward that is learned on held-out data."""

    name: Literal["bilevel"] = Field(default="bilevel", description="which objective")
    reward: Literal["auto", "scalar", "diagonal", "full", "state_dependent"] = Field(
        default="auto",
        description="the Mahalanobis reward's matrix U: constant, or a diagonal U(x); auto: "
        "diagonal in an agent, whose data is scarce at first, state_dependent in fit",
    )
    temperature: PositiveFloat = Field(
        default=1.0,
        description="weight of the entropy (the paper's lambda); only U / temperature matters",
    )
    natural_gradient: Fraction = Field(
        default=0.6,
        description="exponent: 0 weights errors by U, 1 gives the mean the gradient of MSE",
    )
    tails: PositiveFloat | None = Field(
        default=3.0,
        description="with a constant U: errors beyond so many typical ones count linearly, instead "
        "of quadratically; null: none does",
    )
    outer: Literal["likelihood", "return"] = Field(
        default="return",
        description="what held-out data is to be predicted well for: all dimensions alike, or each "
        "by its share in the error of the return and in what ends episodes (alike where neither is "
        "known)",
    )
    return_horizon: PositiveInt = Field(
        default=5, description="steps after a prediction that its return counts"
    )
    outer_every: PositiveInt = Field(
        default=10, description="inner updates between two outer steps of a constant U"
    )
    outer_lr: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5,
        description="share of a full outer step of a constant U, preconditioned by its curvature",
    )


ObjectiveConfig = Annotated[
    MSEConfig | NLLConfig | BetaNLLConfig | PGConfig | BilevelConfig,
    Field(discriminator="name"),
    named("bilevel"),
]
OBJECTIVE_CONFIGS: dict[str, type[StrictConfig]] = {
    "mse": MSEConfig,
    "nll": NLLConfig,
    "beta_nll": BetaNLLConfig,
    "pg": PGConfig,
    "bilevel": BilevelConfig,
}
