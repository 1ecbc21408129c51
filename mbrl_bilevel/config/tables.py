"""Settings of the paper's tabular classification, tables 1 and 2."""

from typing import Annotated, Literal

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

Classifier = Literal["logistic", "mlp"]
RewardFamily = Literal["scalar", "diagonal", "full", "state_dependent"]
ClassSolver = Literal["functional", "closed_form", "cg", "neumann", "nystrom", "unrolled"]


class ClassificationConfig(StrictConfig):
    """What both tables share: the datasets, the classifiers and their training."""

    datasets: Annotated[list[str], Field(min_length=1)] = Field(
        default=["wine", "iris", "breast_cancer", "digits"],
        description="of scikit-learn (these four), OpenML (credit_default, spambase, poker) or "
        "paths of CSV files",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="the first seed; of split, weights and everything else"
    )
    seeds: PositiveInt = Field(default=10, description="how many, counted from seed")
    num_threads: NonNegativeInt = Field(
        default=1, description="threads of the tensor library; 0 leaves its own choice"
    )
    max_rows: Annotated[int, Field(ge=10)] | None = Field(
        default=10_000, description="rows of a dataset used at most, drawn by the seed; null: all"
    )
    held_out: OpenFraction = Field(default=0.2, description="share of the rows held out")
    test: OpenFraction = Field(default=0.2, description="share of the rows to test on")
    models: Annotated[list[Classifier], Field(min_length=1)] = Field(
        default=["logistic", "mlp"], description="which classifiers"
    )
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        default=[64, 64], description="width of each hidden layer of the mlp"
    )
    num_updates: PositiveInt = Field(
        default=300, description="updates of a model at most, each on all its training data"
    )
    check_every: PositiveInt = Field(
        default=10, description="updates between two looks at the data held out (early stopping)"
    )
    lr: PositiveFloat = Field(default=2e-3, description="learning rate of AdamW, mlp")
    logistic_lr: PositiveFloat = Field(default=2e-2, description="learning rate of AdamW, logistic")
    weight_decay: NonNegativeFloat = Field(default=1e-2, description="of AdamW")
    cooldown: Fraction = Field(
        default=0.1,
        description="last share of the updates, over which the learning rate falls to 0",
    )
    num_folds: Annotated[int, Field(ge=2)] = Field(
        default=4, description="folds of training and held-out data, for methods that use both"
    )
    temperature: PositiveFloat = Field(default=1.0, description="weight of the entropy (lambda)")
    estimator: Literal["analytic", "score_function", "dice"] = Field(
        default="analytic", description="of the expected reward, which analytic sums over classes"
    )
    num_samples: Annotated[int, Field(ge=2)] = Field(
        default=16, description="predicted classes drawn by the other estimators"
    )
    initial_betas: Annotated[list[PositiveFloat], Field(min_length=1)] = Field(
        default=[1.0, 4.0],
        description="betas the learned reward may start from, in units of the temperature; "
        "held-out likelihood chooses",
    )
    outer_steps: PositiveInt = Field(default=60, description="updates of the learned reward")
    outer_lr: PositiveFloat = Field(
        default=0.1, description="learning rate of Adam on the reward, at the start; decays to 0"
    )
    scale_ridge: NonNegativeFloat = Field(
        default=0.3, description="inverse variance of a Gaussian prior on the log of the one beta"
    )
    shape_ridge: NonNegativeFloat = Field(
        default=30.0,
        description="the same on every parameter by which other families differ from that beta",
    )

    @field_validator("datasets", "models", "initial_betas")
    @classmethod
    def _no_repeats(cls, value: list[object]) -> list[object]:
        return no_repeats(value)

    @field_validator("test")
    @classmethod
    def _something_left(cls, value: float, info: object) -> float:
        held_out = getattr(info, "data", {}).get("held_out", 0.0)
        if value + held_out >= 1:
            raise ValueError(f"with held_out={held_out} nothing is left to train on")
        return value

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Shares of the training, held-out and test part."""
        return 1 - self.held_out - self.test, self.held_out, self.test


class Table1Config(ClassificationConfig):
    """Tabular classification: the learned reward beside likelihood and fixed rewards."""

    reward: RewardFamily = Field(default="scalar", description="matrix U of the learned reward")
    solver: ClassSolver = Field(default="functional", description="of its hypergradient")


class Table2Config(ClassificationConfig):
    """Tabular classification: families of rewards and hypergradient solvers."""

    rewards: Annotated[list[RewardFamily], Field(min_length=1)] = Field(
        default=["scalar", "diagonal", "full", "state_dependent"],
        description="families, each learned by the first solver",
    )
    solvers: Annotated[list[ClassSolver], Field(min_length=1)] = Field(
        default=["functional", "closed_form", "cg", "neumann", "unrolled"],
        description="hypergradient solvers, each with the first family",
    )

    @field_validator("rewards", "solvers")
    @classmethod
    def _each_once(cls, value: list[object]) -> list[object]:
        return no_repeats(value)


def no_repeats(value: list[object]) -> list[object]:
    """Return the list; raise ValueError if it names something twice."""
    if len(set(value)) < len(value):
        raise ValueError("name each once")
    return value
