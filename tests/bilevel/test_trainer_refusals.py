"""What `BilevelTrainer` cannot take is named, before any training where that can be."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mbrl_bilevel.errors import ConfigError, MBRLError
from mbrl_bilevel.estimators import ScoreFunction
from mbrl_bilevel.heads import DiagonalGaussianHead
from mbrl_bilevel.rewards import MahalanobisReward, NeuralReward, OneHotReward, Reward
from tests.bilevel.trainer_cases import INNER_DATA, OUTER_DATA, Affine, Data, make_trainer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0; it must be positive"),
        ({"temperature": -1.0}, "temperature=-1.0; it must be positive"),
        ({"inner_steps": 0}, "inner_steps=0; it must be an integer of at least 1"),
        ({"inner_lr": -1e-3}, "inner_lr=-0.001; it must be positive"),
        ({"outer_lr": math.nan}, "outer_lr=nan; it must be positive"),
        ({"batch_size": 0}, "batch_size=0; it must be an integer of at least 1"),
        ({"patience": 0}, "patience=0; it must be an integer of at least 1"),
        ({"final_inner_steps": -1}, "final_inner_steps=-1; it must be an integer of at least 0"),
        ({"seed": -1}, "seed=-1; it must be an integer of at least 0"),
        ({"natural_gradient": 1.5}, r"natural_gradient=1.5; it must lie in \[0, 1\]"),
        ({"solver": "cgg"}, "unknown solver 'cgg'; did you mean 'cg'"),
        ({"solver": "closed_form"}, "solver 'closed_form' needs a formula"),
        ({"estimator": ScoreFunction(), "solver": "cg"}, "second derivatives are wrong"),
        ({"estimator": ScoreFunction(), "solver": "unrolled"}, "second derivatives are wrong"),
        ({"reward": NeuralReward(1, 1)}, "'functional' cannot read .* NeuralReward; use 'cg'"),
        ({"outer_objective": lambda i, _: i["log_var"].sum()}, "of your own use 'cg'"),
        ({"reward": OneHotReward(2), "natural_gradient": 0.5}, "has no natural gradient"),
        ({"head": DiagonalGaussianHead(2)}, "the reward is for 1 dimensions, the head has 2"),
        ({"reward": Reward()}, "reward Reward has no target_size"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(**settings)


def test_a_fixed_u_must_be_positive_definite() -> None:
    with pytest.raises(ConfigError, match="U is not positive definite: its smallest eigenvalue"):
        MahalanobisReward(2, "full", initial=torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


def with_nan(values: Tensor, row: int = 3) -> Tensor:
    spoilt = values.clone()
    spoilt[row] = math.nan
    return spoilt


X, Y = INNER_DATA


@pytest.mark.parametrize(
    ("inner_data", "outer_data", "message"),
    [
        (INNER_DATA, (X[:0], Y[:0]), "outer_data is empty"),
        ((X[:0], Y[:0]), OUTER_DATA, "inner_data is empty"),
        ((X, Y[:-1]), OUTER_DATA, "inner_data holds 100 inputs but 99 targets"),
        (INNER_DATA, (X, torch.cat([Y, Y], -1)), r"outer_data: the targets .* needs \[\.\.\., 1\]"),
        ((X, with_nan(Y)), OUTER_DATA, r"inner_data: the targets hold nan.*\(1 values; row 3\)"),
        ((with_nan(X), Y), OUTER_DATA, r"inner_data: the inputs hold nan.*\(1 values; row 3\)"),
        (INNER_DATA, (X, with_nan(Y)), "outer_data: the targets hold nan"),
        ((X.float(), Y.float()), OUTER_DATA, "share one dtype; found torch.float64 .*float32"),
        ((X, Y.long()), OUTER_DATA, "needs floating-point"),
    ],
)
def test_unfit_data(inner_data: Data, outer_data: Data, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(inner_data, outer_data, 1)


class Constant(nn.Module):
    """Returns the same outputs whatever the inputs."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.zeros(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        del x
        return self.outputs


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(1, 3).double(), r"outputs have shape \[2, 3\]; .* needs \[\.\.\., 2\]"),
        (Constant(2), r"outputs have shape \[2\] for 2 inputs; they must be \[\.\.\., 2, 2\]"),
        (nn.Linear(1, 2), r"share one dtype; .*torch.float32 \(the model's weight\)"),
        (nn.Identity(), "no parameter that requires a gradient"),
    ],
)
def test_unfit_models(model: nn.Module, message: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=message):
        make_trainer(model).fit(INNER_DATA, OUTER_DATA, 1)


def test_an_unused_parameter_is_named_before_any_training() -> None:
    model = Affine()
    model.forgotten = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    before = model.mean.bias.item()
    with pytest.raises(ValueError, match=r"do not depend on its parameters \['forgotten'\]"):
        make_trainer(model).fit(INNER_DATA, OUTER_DATA, 1)
    assert model.mean.bias.item() == before


def test_a_model_too_large_for_the_dense_solver_is_named_before_any_training() -> None:
    model = nn.Linear(5001, 2).double()
    data = torch.zeros(2, 5001, dtype=torch.float64), Y[:2]
    with pytest.raises(ConfigError, match="at most 10000 parameters, and the model has 10004"):
        make_trainer(model, solver="dense").fit(data, data, 1)


def test_reward_of_another_dtype() -> None:
    with pytest.raises(ValueError, match=r"torch.float32 \(the reward's log_u\)"):
        make_trainer(reward=MahalanobisReward(1)).fit(INNER_DATA, OUTER_DATA, 1)


@pytest.mark.parametrize(
    "outer_data",
    [
        INNER_DATA,
        (X.clone(), Y.clone()),
        (torch.cat([X[:20], OUTER_DATA[0]]), torch.cat([Y[:20], OUTER_DATA[1]])),
    ],
    ids=["same tensors", "equal contents", "overlapping rows"],
)
def test_outer_data_must_be_held_out(outer_data: Data) -> None:
    trainer = make_trainer(inner_steps=1, final_inner_steps=0)
    with pytest.warns(UserWarning, match=r"not held out: \d+ of its \d+ rows .* without bound"):
        trainer.fit(INNER_DATA, outer_data, 1)


def test_a_few_rows_in_common_are_no_reason_to_warn() -> None:
    outer_data = torch.cat([X[:5], OUTER_DATA[0]]), torch.cat([Y[:5], OUTER_DATA[1]])
    make_trainer(inner_steps=1, final_inner_steps=0).fit(INNER_DATA, outer_data, 1)


def test_the_same_inputs_with_other_targets_are_held_out() -> None:
    make_trainer(inner_steps=1, final_inner_steps=0).fit(INNER_DATA, (X, OUTER_DATA[1]), 1)


def test_outer_data_are_needed_for_the_held_out_nll() -> None:
    with pytest.raises(ConfigError, match="outer_data is None"):
        make_trainer().fit(INNER_DATA, None, 1)


def test_at_least_one_outer_step() -> None:
    with pytest.raises(ConfigError, match="num_outer_steps=0"):
        make_trainer().fit(INNER_DATA, OUTER_DATA, 0)


def test_a_diverged_model_is_an_error() -> None:
    trainer = make_trainer(inner_optimizer=lambda params: torch.optim.SGD(params, 1e6))
    with pytest.raises(MBRLError, match="must be finite"):
        trainer.fit(INNER_DATA, OUTER_DATA, 2)
