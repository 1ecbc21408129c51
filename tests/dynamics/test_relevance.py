"""Which dimensions matter for the return: against derivatives of a plain rollout."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import DynamicsModel
from mbrl_bilevel.dynamics.relevance import ROWS, Relevance
from mbrl_bilevel.types import RewardFn, TaskFunctions, TerminationFn
from tests.dynamics.cases import OBS_SIZE, generator, linear_system, make_model

DATA = linear_system(200)


def model(*, learns_reward: bool = False) -> DynamicsModel:
    made = make_model("bilevel", learns_reward=learns_reward)
    inputs, targets = made.tensors(DATA)
    made.input_normalizer.fit(inputs)
    made.target_normalizer.fit(targets)
    return made


def paid_for_the_first(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    return next_obs[..., 0].sin() + action[..., 0] * obs[..., 0]


def paid_for_actions(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
    return action[..., 0]


def looked(
    reward_fn: RewardFn | None, termination_fn: TerminationFn | None, horizon: int = 4
) -> Tensor | None:
    made = model()
    inputs = made.tensors(DATA)[0]
    relevance = Relevance(made, TaskFunctions(reward_fn, termination_fn), horizon)
    relevance.begin(inputs, torch.as_tensor(DATA.next_obs))
    return relevance.look(inputs, generator(3))


class Worth:
    """A value of states."""

    discount = 0.8

    def __call__(self, obs: Tensor, /) -> Tensor:
        return 3 * obs[..., 1].cos()


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("learns_reward", [False, True])
@pytest.mark.parametrize("value", [None, Worth()])
def test_shares_are_the_squared_derivatives_of_the_return(
    horizon: int, learns_reward: bool, value: Worth | None
) -> None:
    """By central differences of a rollout written out, one row and member at a time."""
    made = model(learns_reward=learns_reward).double()
    inputs = made.tensors(DATA)[0].double()
    reward_fn = None if learns_reward else paid_for_the_first
    found = Relevance(made, TaskFunctions(reward_fn, value=value), horizon).look(
        inputs, generator(3)
    )
    rows = torch.randint(len(inputs) - horizon, (ROWS,), generator=generator(3))
    discount = 1.0 if value is None else value.discount
    std = made.target_normalizer.std
    squares = torch.zeros(made.network.ensemble_size, OBS_SIZE + learns_reward, dtype=torch.float64)

    def step(member: int, x: Tensor) -> Tensor:
        """The raw prediction of one member, `[D]`, for a raw input `[D_x]`."""
        normal = made.input_normalizer.normalize(x[None]).expand(3, -1, -1)
        mean: Tensor = made.target_normalizer.denormalize(made.network(normal).mean)
        return mean[member, 0]

    def total(member: int, row: int, next_obs: Tensor) -> Tensor:
        obs, action = inputs[row, :OBS_SIZE], inputs[row, OBS_SIZE:]
        paid = torch.zeros(()) if learns_reward else paid_for_the_first(obs, action, next_obs)
        for t in range(1, horizon + 1):
            obs, action = next_obs, inputs[row + t, OBS_SIZE:]
            prediction = step(member, torch.cat([obs, action]))
            next_obs = obs + prediction[:OBS_SIZE]
            own = prediction[-1] if learns_reward else paid_for_the_first(obs, action, next_obs)
            paid = paid + discount**t * own
        return paid if value is None else paid + discount ** (horizon + 1) * value(next_obs)

    bump = 1e-5
    with torch.no_grad():
        for member in range(3):
            for row in rows.tolist():
                start = inputs[row, :OBS_SIZE] + step(member, inputs[row])[:OBS_SIZE]
                for dim in range(OBS_SIZE):
                    shift = torch.zeros(OBS_SIZE, dtype=torch.float64)
                    shift[dim] = bump
                    up, down = total(member, row, start + shift), total(member, row, start - shift)
                    slope = (up - down) / (2 * bump) * std[dim]
                    squares[member, dim] += slope**2 / ROWS
    if learns_reward:
        squares[:, OBS_SIZE] = std[OBS_SIZE] ** 2
    expected = squares.median(dim=0).values
    assert found is not None
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-4, atol=1e-8)


def test_a_reward_of_actions_alone_says_nothing() -> None:
    assert looked(paid_for_actions, None) is None


def test_without_a_reward_nothing_is_known() -> None:
    assert looked(None, None) is None


def test_a_reward_that_is_not_finite_says_nothing() -> None:
    def broken(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
        return next_obs[..., 0] * torch.inf

    assert looked(broken, None) is None


def test_few_steps_shorten_the_rollout() -> None:
    made = model()
    inputs = made.tensors(DATA)[0]
    relevance = Relevance(made, TaskFunctions(paid_for_the_first), 5)
    shares = relevance.look(inputs[:3], generator())
    assert shares is not None
    assert float(shares.sum()) == pytest.approx(1.0)
    assert relevance.look(inputs[:1], generator()) is None


def ends_by(dim: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda obs, action, next_obs: next_obs[..., dim].abs() > 0.5  # noqa: ARG005


@pytest.mark.parametrize("dim", range(OBS_SIZE))
def test_what_decides_about_the_end_counts_like_a_payment_for_it(dim: int) -> None:
    """A jump has no gradient; the dimension that it depends on has."""
    shares = looked(None, ends_by(dim))
    paid = looked(lambda obs, action, next_obs: next_obs[..., dim], None)  # noqa: ARG005
    assert shares is not None
    assert paid is not None
    torch.testing.assert_close(shares, paid)
    assert float(shares.sum()) == pytest.approx(1.0)


def test_return_and_end_count_alike() -> None:
    alone = [looked(paid_for_the_first, None), looked(None, ends_by(1))]
    both = looked(paid_for_the_first, ends_by(1))
    assert both is not None
    torch.testing.assert_close(both, sum(alone) / 2)


def test_dimensions_decide_in_the_share_of_steps_that_they_change() -> None:
    def ends(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
        return (next_obs[..., 0].abs() > 0.5) | (next_obs[..., 1].abs() > 1.0)

    made = model()
    next_obs = torch.as_tensor(DATA.next_obs)
    relevance = Relevance(made, TaskFunctions(termination_fn=ends), 1)
    relevance.begin(made.tensors(DATA)[0], next_obs)
    others = next_obs.roll(100, dims=0)
    flipped = []
    for dim in range(OBS_SIZE):
        swapped = torch.where(torch.arange(OBS_SIZE) == dim, others, next_obs)
        flipped.append(ends(next_obs, next_obs, swapped) != ends(next_obs, next_obs, next_obs))
    rate = torch.stack(flipped).float().mean(dim=1)
    assert rate[0] > 0
    assert rate[1] > 0
    assert rate[2:].sum() == 0
    decides = relevance._decides
    assert decides is not None
    torch.testing.assert_close(decides.square() * next_obs.var(dim=0), rate)


def test_ends_that_nothing_changes_say_nothing() -> None:
    def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:  # noqa: ARG001
        return torch.zeros(next_obs.shape[:-1], dtype=torch.bool)

    assert looked(None, never) is None
    paid, with_ends = looked(paid_for_the_first, None), looked(paid_for_the_first, never)
    assert paid is not None
    assert with_ends is not None
    assert torch.equal(paid, with_ends)


def test_a_value_alone_says_what_matters_once_it_has_learned() -> None:
    made = model()
    inputs = made.tensors(DATA)[0]

    class Nothing(Worth):
        def __call__(self, obs: Tensor, /) -> Tensor:
            return (0 * obs).sum(dim=-1)

    assert Relevance(made, TaskFunctions(value=Nothing()), 2).look(inputs, generator()) is None
    shares = Relevance(made, TaskFunctions(value=Worth()), 2).look(inputs, generator())
    assert shares is not None
    assert float(shares.sum()) == pytest.approx(1.0)
