"""Settings of the rewards of predictions, and of the estimators of the expected reward."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from mbrl_bilevel.config.base import OpenFraction, PositiveFloat, PositiveInt, StrictConfig, named


def _check_square(matrix: list[list[float]]) -> list[list[float]]:
    if any(len(row) != len(matrix) for row in matrix):
        lengths = ", ".join(str(len(row)) for row in matrix)
        raise ValueError(f"{len(matrix)} rows of lengths {lengths}; a matrix U must be square")
    return matrix


def _number_or_matrix(value: Any) -> str:
    return "matrix" if isinstance(value, list | tuple) else "number"


Matrix = Annotated[list[list[float]], Field(min_length=1), AfterValidator(_check_square)]
InitialU = Annotated[
    Annotated[PositiveFloat, Tag("number")] | Annotated[Matrix, Tag("matrix")],
    # Decided by the value, so that a wrong one gets one message and not one a kind.
    Discriminator(_number_or_matrix),
]
HiddenSizes = Annotated[list[PositiveInt], Field(min_length=1)]
Structure = Literal["scalar", "diagonal", "full"]


def _initial_u() -> Any:
    return Field(default=1.0, description="U at the start: u for u I, or a list of rows")


def _learned() -> Any:
    return Field(default=True, description="false keeps the reward as it starts")


class MahalanobisConfig(StrictConfig):
    """`-(y_hat - y)^T U (y_hat - y)` with one U for all samples."""

    name: Literal["mahalanobis"] = Field(default="mahalanobis", description="which reward")
    structure: Structure = Field(default="diagonal", description="shape of the matrix U")
    initial: InitialU = _initial_u()
    learned: bool = _learned()


class StateDependentConfig(StrictConfig):
    """`-(y_hat - y)^T U(x) (y_hat - y)` with U(x) by a network."""

    name: Literal["state_dependent"] = Field(default="state_dependent", description="which reward")
    structure: Literal["diagonal", "full"] = Field(
        default="diagonal", description="shape of the matrices U(x)"
    )
    hidden_sizes: HiddenSizes = Field(default=[64, 64], description="width of each hidden layer")
    initial: InitialU = _initial_u()
    learned: bool = _learned()


class NeuralConfig(StrictConfig):
    """Squared errors with weights by a network of the error and the input."""

    name: Literal["neural"] = Field(default="neural", description="which reward")
    hidden_sizes: HiddenSizes = Field(default=[64, 64], description="width of each hidden layer")
    initial: PositiveFloat = Field(default=1.0, description="every weight at the start")
    learned: bool = _learned()


class EmbeddingConfig(StrictConfig):
    """A Mahalanobis reward between learned embeddings of prediction and target."""

    name: Literal["embedding"] = Field(default="embedding", description="which reward")
    structure: Structure = Field(default="diagonal", description="shape of the matrix U")
    hidden_sizes: HiddenSizes = Field(default=[64], description="width of each hidden layer")
    initial: InitialU = _initial_u()
    learned: bool = _learned()


class OneHotConfig(StrictConfig):
    """A Mahalanobis reward between one-hot codes of classes."""

    name: Literal["one_hot"] = Field(default="one_hot", description="which reward")
    structure: Structure = Field(default="scalar", description="shape of the matrix U")
    initial: InitialU = _initial_u()
    learned: bool = _learned()


RewardConfig = Annotated[
    MahalanobisConfig | StateDependentConfig | NeuralConfig | EmbeddingConfig | OneHotConfig,
    Field(discriminator="name"),
    named("mahalanobis"),
]
REWARD_CONFIGS: dict[str, type[StrictConfig]] = {
    "mahalanobis": MahalanobisConfig,
    "state_dependent": StateDependentConfig,
    "neural": NeuralConfig,
    "embedding": EmbeddingConfig,
    "one_hot": OneHotConfig,
}


class AnalyticConfig(StrictConfig):
    """The expected reward in closed form."""

    name: Literal["analytic"] = Field(default="analytic", description="which estimator")


class ReparameterisedConfig(StrictConfig):
    """The mean over samples, differentiated through them."""

    name: Literal["reparameterised"] = Field(
        default="reparameterised", description="which estimator"
    )
    num_samples: PositiveInt = Field(default=16, description="samples of each prediction")


class DiceConfig(StrictConfig):
    """The mean over samples, weighted by likelihood ratios."""

    name: Literal["dice"] = Field(default="dice", description="which estimator")
    num_samples: Annotated[int, Field(ge=2)] = Field(
        default=16, description="samples of each prediction"
    )


class ScoreFunctionConfig(StrictConfig):
    """REINFORCE: trains models, but does not enter hypergradients."""

    name: Literal["score_function"] = Field(default="score_function", description="which estimator")
    num_samples: PositiveInt = Field(default=16, description="samples of each prediction")
    baseline: Literal["none", "mean", "leave_one_out", "group_normalised"] = Field(
        default="leave_one_out", description="subtracted from each sample's reward"
    )
    clip: OpenFraction | None = Field(
        default=None, description="PPO's range of the likelihood ratio around 1; null: not clipped"
    )

    @model_validator(mode="after")
    def _enough_samples(self) -> "ScoreFunctionConfig":
        if self.baseline != "none" and self.num_samples < 2:
            raise ValueError(f"baseline {self.baseline!r} needs num_samples of at least 2")
        return self


EstimatorConfig = Annotated[
    AnalyticConfig | ReparameterisedConfig | DiceConfig | ScoreFunctionConfig,
    Field(discriminator="name"),
    named("analytic"),
]
ESTIMATOR_CONFIGS: dict[str, type[StrictConfig]] = {
    "analytic": AnalyticConfig,
    "reparameterised": ReparameterisedConfig,
    "dice": DiceConfig,
    "score_function": ScoreFunctionConfig,
}
