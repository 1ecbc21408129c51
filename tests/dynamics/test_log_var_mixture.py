"""Log-variance heads of a mixture, solved together on held-out data."""

import math

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import log_var_head, log_var_mixture
from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble
from mbrl_bilevel.dynamics.log_var_head import solve_head
from mbrl_bilevel.dynamics.log_var_mixture import COVERAGE, solve_log_var_heads
from mbrl_bilevel.evaluation import GaussianMixture
from mbrl_bilevel.objectives import gaussian_nll
from mbrl_bilevel.types import Gaussian
from tests.dynamics.cases import generator, normal

D, INPUTS = 2, 3


def network_of(
    ensemble_size: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> GaussianEnsemble:
    """Members that differ in their means a little, and whose log-variances are wrong."""
    network = GaussianEnsemble(
        INPUTS, D, ensemble_size, [12], generator(seed), with_leverage=True
    ).to(dtype)
    with torch.no_grad():
        network.weights[-1][..., :D] *= 0.04
        network.weights[-1][..., D:] *= 0.1
        network.biases[-1][..., D:] = -4.0
    return network


def noisy(x: Tensor, mean: Tensor, seed: int, heavy: bool = False) -> Tensor:
    """Targets around a mean, with a noise that depends on x; with tails, if `heavy`."""
    log_var = torch.stack([x[:, 0] - 6, -0.5 * x[:, 1] - 5], dim=1)
    noise = normal(seed, *mean.shape)
    if heavy:
        noise = noise * (0.8 * normal(seed + 1, *mean.shape)).exp()
    return mean.double() + noise * (0.5 * log_var).exp()


def held_out(
    network: GaussianEnsemble, num_rows: int = 1200, seed: int = 20, heavy: bool = False
) -> tuple[Tensor, Tensor]:
    x = normal(seed, num_rows, INPUTS)
    dtype = network.weights[0].dtype
    mean = predict(network, x.to(dtype)).mean.mean(dim=0)
    return x.to(dtype), noisy(x, mean, seed + 1, heavy).to(dtype)


def solve(network: GaussianEnsemble, x: Tensor, target: Tensor) -> dict[str, float]:
    """With training inputs that are distributed like the held-out ones."""
    x_training = normal(60, 2000, INPUTS).to(x.dtype)
    return solve_log_var_heads(network, x_training, x, target)


@torch.no_grad()
def predict(network: GaussianEnsemble, x: Tensor) -> Gaussian:
    prediction: Gaussian = network(x.expand(network.ensemble_size, -1, -1))
    return prediction


def mixture_nll(network: GaussianEnsemble, x: Tensor, target: Tensor) -> float:
    """Per dimension."""
    prediction = predict(network, x)
    mixture = GaussianMixture(prediction.mean, prediction.log_var)
    return -mixture.log_prob(target).mean().item() / D


def coverage(network: GaussianEnsemble, x: Tensor, target: Tensor) -> Tensor:
    """Share of targets in the mixture's central 90% interval, `[D]`."""
    prediction = predict(network, x)
    level = GaussianMixture(prediction.mean, prediction.log_var).cdf(target)
    return ((level - 0.5).abs() < COVERAGE / 2).double().mean(dim=0)


def gradient(network: GaussianEnsemble, x: Tensor, target: Tensor, parameter: Tensor) -> Tensor:
    """Of the mixture's joint NLL."""
    size = network.ensemble_size
    joint = -gaussian_nll(network(x.expand(size, -1, -1)), target).sum(dim=-1)
    loss = math.log(size) - joint.logsumexp(dim=0).mean()
    (found,) = torch.autograd.grad(loss, parameter)
    return found


def of_shift(network: GaussianEnsemble, x: Tensor, target: Tensor) -> Tensor:
    """Of each head's outputs: their bias, `[E, D]`."""
    return of_heads(network, x, target)[:, -1]


def of_heads(network: GaussianEnsemble, x: Tensor, target: Tensor) -> Tensor:
    """`[E, F, D]`."""
    weight, bias = network.weights[-1], network.biases[-1]
    parts = [gradient(network, x, target, part)[..., D:] for part in (weight, bias)]
    return torch.cat(parts, dim=1)


@pytest.fixture
def no_outliers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large, a residual counts in full."""
    monkeypatch.setattr(log_var_mixture, "MAX_SURPRISE", math.inf)


@pytest.fixture
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_var_mixture, "MIN_CALIBRATION_ROWS", 10**9)


def slope(network: GaussianEnsemble) -> Tensor:
    """In the leverage, `[E, 1, D]`."""
    assert network.leverage is not None
    return network.leverage.slope


EACH_SIZE = pytest.mark.parametrize("ensemble_size", [1, 3])


@pytest.mark.usefixtures("uncalibrated")
@EACH_SIZE
def test_the_mixture_explains_held_out_data_better(ensemble_size: int) -> None:
    """And data that nobody has seen."""
    network = network_of(ensemble_size)
    data, unseen = held_out(network), held_out(network, seed=40)
    before = mixture_nll(network, *unseen)
    metrics = solve(network, *data)
    assert metrics["bilevel/outer_loss"] < metrics["bilevel/outer_loss_before"] - 0.1
    assert mixture_nll(network, *unseen) < before - 0.1


@pytest.mark.usefixtures("no_outliers")
@EACH_SIZE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("calibrates", [False, True])
def test_what_is_logged_is_true(
    monkeypatch: pytest.MonkeyPatch, ensemble_size: int, dtype: torch.dtype, calibrates: bool
) -> None:
    monkeypatch.setattr(log_var_mixture, "MIN_CALIBRATION_ROWS", 1 if calibrates else 10**9)
    network = network_of(ensemble_size, dtype=dtype)
    x, target = held_out(network)
    before, slope = mixture_nll(network, x, target), of_shift(network, x, target).norm().item()
    metrics = solve(network, x, target)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    assert metrics["bilevel/outer_loss_before"] == pytest.approx(before, abs=tolerance)
    after = mixture_nll(network, x, target)
    assert metrics["bilevel/outer_loss"] == pytest.approx(after, abs=tolerance)
    norm, share = metrics["bilevel/hypergradient_norm"], metrics["bilevel/solver_residual"]
    assert share == pytest.approx(norm / slope, rel=1e-3)
    if not calibrates:
        left_over = of_shift(network, x, target).norm().item()
        assert norm == pytest.approx(left_over, abs=tolerance)


@pytest.mark.usefixtures("uncalibrated")
@EACH_SIZE
def test_most_of_the_hypergradient_is_gone(ensemble_size: int) -> None:
    network = network_of(ensemble_size)
    data = held_out(network)
    before = of_heads(network, *data).norm()
    metrics = solve(network, *data)
    assert metrics["bilevel/solver_residual"] < 0.1
    assert of_heads(network, *data).norm() < 0.1 * before


@pytest.mark.usefixtures("uncalibrated")
@EACH_SIZE
def test_without_a_ridge_and_with_patience_it_ends_at_a_stationary_point(
    monkeypatch: pytest.MonkeyPatch, ensemble_size: int
) -> None:
    monkeypatch.setattr(log_var_head, "RIDGES", (1e-8,))
    monkeypatch.setattr(log_var_head, "TOLERANCE", 1e-9)
    monkeypatch.setattr(log_var_mixture, "NUM_ROUNDS", 100)
    monkeypatch.setattr(log_var_mixture, "ROUND_TOLERANCE", 1e-9)
    network = network_of(ensemble_size)
    data = held_out(network)
    before = of_heads(network, *data).norm()
    solve(network, *data)
    assert of_heads(network, *data).norm() < 0.01 * before
    assert of_heads(network, *data).norm() < 5e-3


@pytest.mark.usefixtures("uncalibrated")
def test_a_mixture_is_not_as_wide_as_members_by_themselves() -> None:
    """Members that are each as uncertain as their errors make a mixture that is too uncertain."""
    together = network_of(3)
    x, target = held_out(together)
    with torch.no_grad():
        together.biases[-1][..., :D] += 0.1 * normal(9, 3, 1, D)
    alone = network_of(3)
    alone.load_state_dict(together.state_dict())
    solve(together, x, target)
    for member in range(3):
        features = alone.member_features(x, member).detach()
        layer = torch.cat([alone.weights[-1][member], alone.biases[-1][member]]).detach()
        squared = (features @ layer[:, :D] - target).square()
        head = solve_head(features, squared, layer[:, D:])
        with torch.no_grad():
            alone.weights[-1][member, :, D:] = head[:-1]
            alone.biases[-1][member, :, D:] = head[-1:]
    assert mixture_nll(together, x, target) < mixture_nll(alone, x, target) - 0.01


@EACH_SIZE
@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_hold_as_much_as_they_say(ensemble_size: int, heavy: bool) -> None:
    network = network_of(ensemble_size)
    data = held_out(network, heavy=heavy)
    solve(network, *data)
    assert (coverage(network, *data) - COVERAGE).abs().max() < 0.01
    unseen = held_out(network, num_rows=4000, seed=40, heavy=heavy)
    assert (coverage(network, *unseen) - COVERAGE).abs().max() < 0.025


@pytest.mark.usefixtures("uncalibrated", "no_outliers")
def test_without_calibration_heavy_tails_make_intervals_too_wide() -> None:
    network = network_of(1)
    data = held_out(network, heavy=True)
    solve(network, *data)
    assert coverage(network, *data).min() > COVERAGE + 0.01


def test_a_calibration_is_one_shift_of_all_members() -> None:
    """Of the outputs of the heads: a dimension's biases, and nothing else."""
    calibrated, plain = network_of(3), network_of(3)
    data = held_out(calibrated, heavy=True)
    solve(calibrated, *data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_var_mixture, "MIN_CALIBRATION_ROWS", 10**9)
        solve(plain, *data)
    assert torch.equal(calibrated.weights[-1], plain.weights[-1])
    assert torch.equal(slope(calibrated), slope(plain))
    shift = (calibrated.biases[-1] - plain.biases[-1])[..., D:]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    assert shift.abs().min() > 1e-3


@EACH_SIZE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_are_not_touched(ensemble_size: int, dtype: torch.dtype) -> None:
    network = network_of(ensemble_size, dtype=dtype)
    x, target = held_out(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prediction = predict(network, x)
    solve(network, x, target)
    after = predict(network, x)
    assert torch.equal(prediction.mean, after.mean)
    assert not torch.equal(prediction.log_var, after.log_var)
    for name, value in network.state_dict().items():
        size = D if name in ("weights.1", "biases.1") else None
        if not name.startswith("leverage."):
            assert torch.equal(before[name][..., :size], value[..., :size])
        assert value.dtype == dtype


@pytest.mark.usefixtures("uncalibrated")
def test_outliers_that_no_variance_explains_do_not_decide() -> None:
    """How far off they are does not matter; and others are still explained."""
    near, far = network_of(2), network_of(2)
    x, target = held_out(near)
    for network, distance in ((near, 100.0), (far, 1e4)):
        before = mixture_nll(network, x, target)
        moved = target.clone()
        moved[::400] += distance
        solve(network, x, moved)
        assert mixture_nll(network, x, target) < before - 0.1
    assert torch.equal(near.weights[-1], far.weights[-1])
    assert torch.equal(near.biases[-1], far.biases[-1])


def test_only_so_many_rows_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_var_mixture, "MAX_ROWS", 100)
    network, thinned = network_of(2), network_of(2)
    x, target = held_out(network, num_rows=250)
    metrics = solve(network, x, target)
    assert metrics == solve(thinned, x[::3], target[::3])
    assert torch.equal(network.weights[-1], thinned.weights[-1])
    assert metrics["bilevel/outer_loss"] == pytest.approx(
        mixture_nll(network, x[::3], target[::3]), abs=1e-9
    )


@EACH_SIZE
def test_a_single_row_changes_nothing(ensemble_size: int) -> None:
    network, untouched = network_of(ensemble_size), network_of(ensemble_size)
    metrics = solve(network, *held_out(network, num_rows=1))
    torch.testing.assert_close(network.weights[-1], untouched.weights[-1], rtol=0, atol=0)
    torch.testing.assert_close(network.biases[-1], untouched.biases[-1], rtol=0, atol=0)
    assert metrics["bilevel/outer_loss"] == metrics["bilevel/outer_loss_before"]
    assert metrics["bilevel/solver_residual"] == 1.0


def unlike_the_others(network: GaussianEnsemble, num_far: int, seed: int) -> tuple[Tensor, Tensor]:
    """Held-out data, with some inputs far from all training data, where errors are large."""
    x, _ = held_out(network, seed=seed)
    far = torch.arange(0, len(x), len(x) // num_far)[:num_far]
    x[far] *= 5.0
    mean = predict(network, x).mean.mean(dim=0)
    target = noisy(x.clamp(-3, 3), mean, seed + 1)
    target[far] += 2.0 * normal(seed + 2, num_far, D)
    return x, target


@EACH_SIZE
def test_predictions_far_from_the_training_data_are_uncertain(ensemble_size: int) -> None:
    """Few held-out rows are enough to learn it, and rows nobody has seen profit."""
    network, without = network_of(ensemble_size), network_of(ensemble_size)
    data, unseen = (unlike_the_others(network, 12, seed) for seed in (20, 50))
    solve(network, *data)
    assert (slope(network) > 0.1).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_var_mixture, "SLOPE_PENALTY", 1e9)
        solve(without, *data)
    assert mixture_nll(network, *unseen) < mixture_nll(without, *unseen) - 0.1


def test_calibration_is_judged_on_rows_that_heads_were_not_solved_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few rows and no ridge: on their own rows heads look better than they are."""
    monkeypatch.setattr(log_var_head, "RIDGES", (1e-6,))
    network = network_of(1)
    solve(network, *held_out(network, num_rows=120))
    unseen = held_out(network, num_rows=4000, seed=40)
    assert coverage(network, *unseen).min() > COVERAGE - 0.03
