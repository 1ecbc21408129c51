"""Large products, one member after the other, against one batched product a layer."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import MemberModels, fast_layers, onednn
from mbrl_bilevel.dynamics.ensemble import Layers, multi_layer
from mbrl_bilevel.dynamics.fast_layers import MemberLayers
from mbrl_bilevel.dynamics.leverage import log_leverage
from mbrl_bilevel.dynamics.onednn import has_fused_linear, large_dtype, update_dtype
from tests.dynamics.cases import OBS_SIZE, disturb, generator, make_model

SIZES = [7, 40, 33, 10]
NUM_MEMBERS = 3
DTYPES = [torch.float32, torch.bfloat16]
EACH_INDEX = pytest.mark.parametrize(
    "indices", [[0], [0, 0, 1, 1, 2, 2], [2, 2, 2, 0], [0, 2, 0], [1, 1, 2]]
)


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_layers, "MIN_WORK", 0)


@pytest.fixture(params=["fused", "blocks", "ordinary"])
def fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With oneDNN's layer, where there is one, with blocks of rows, and with ordinary layers."""
    if request.param == "ordinary":
        monkeypatch.setattr(onednn, "has_fused_linear", lambda _dtype: False)
    monkeypatch.setattr(onednn, "has_wide_vectors", lambda: request.param != "blocks")
    monkeypatch.setattr(fast_layers, "BLOCK_ROWS", 8)
    monkeypatch.setattr(fast_layers, "LAYER_ROWS", 8)


def random_layers() -> Layers:
    gen = generator()
    return [
        (
            torch.randn(NUM_MEMBERS, fan_in, fan_out, generator=gen) / fan_in**0.5,
            torch.randn(NUM_MEMBERS, 1, fan_out, generator=gen),
        )
        for fan_in, fan_out in itertools.pairwise(SIZES)
    ]


def inputs_for(indices: list[int], num_rows: int = 21) -> Tensor:
    return torch.randn(len(indices), num_rows, SIZES[0], generator=generator(1))


def one_by_one(layers: Layers, indices: list[int], inputs: Tensor) -> Tensor:
    rows = []
    for row, member in zip(inputs, indices, strict=True):
        alone = [(w[member : member + 1], b[member : member + 1]) for w, b in layers]
        rows.append(multi_layer(row[None], alone)[0])
    return torch.stack(rows)


@pytest.mark.usefixtures("all_large", "fused")
@EACH_INDEX
@pytest.mark.parametrize("num_rows", [1, 21])
def test_outputs_are_those_of_the_members_one_by_one(indices: list[int], num_rows: int) -> None:
    layers, inputs = random_layers(), inputs_for(indices, num_rows)
    found, leverage = MemberLayers(layers, torch.tensor(indices), torch.float32)(inputs)
    assert leverage is None
    expected = one_by_one(layers, indices, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("all_large", "fused")
@EACH_INDEX
def test_bfloat16_rounds_and_no_more(indices: list[int]) -> None:
    layers, inputs = random_layers(), inputs_for(indices)
    found, _ = MemberLayers(layers, torch.tensor(indices), torch.bfloat16)(inputs)
    expected = one_by_one(layers, indices, inputs)
    assert found.dtype == torch.bfloat16
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert 1e-4 < error < 0.01


@pytest.mark.usefixtures("all_large", "fused")
@pytest.mark.parametrize("dtype", DTYPES)
def test_leverages_are_those_of_the_features(dtype: torch.dtype) -> None:
    layers, indices = random_layers(), [0, 0, 2]
    inputs = inputs_for(indices)
    root = torch.randn(NUM_MEMBERS, SIZES[-2] + 1, SIZES[-2] + 1, generator=generator(2))
    _, found = MemberLayers(layers, torch.tensor(indices), dtype, root)(inputs)
    features = torch.nn.functional.silu(one_by_one(layers[:-1], indices, inputs))
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    expected = log_leverage(features, root[indices])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_rows", [300, 6000])
def test_only_large_products_are_in_bfloat16(num_rows: int) -> None:
    layers, indices = random_layers(), [0, 0, 1, 2]
    inputs = inputs_for(indices, num_rows)
    is_large = num_rows * 4 / 3 * sum(w[0].numel() for w, _ in layers) / 3 >= fast_layers.MIN_WORK
    assert is_large == (num_rows == 6000)
    found, _ = MemberLayers(layers, torch.tensor(indices), torch.bfloat16)(inputs)
    assert found.dtype == (torch.bfloat16 if is_large else torch.float32)


@pytest.mark.usefixtures("all_large")
def test_inputs_that_need_a_gradient_get_an_exact_one() -> None:
    layers, indices = random_layers(), [0, 2, 2]
    inputs = inputs_for(indices).requires_grad_()
    members = MemberLayers(layers, torch.tensor(indices), torch.bfloat16)
    found, _ = members(inputs)
    expected = one_by_one(layers, indices, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), inputs)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert members(inputs)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_that_computes_something_else_is_not_used(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = has_fused_linear.__wrapped__
    if not check(dtype):
        pytest.skip("this build has no such layer")
    right = onednn._fused_linear

    def without_activation(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool) -> Tensor:
        del silu
        return right(x, weight, bias, silu=False)

    def missing(*_: Any, **__: Any) -> Tensor:
        raise AttributeError("no such operator")

    for wrong in (without_activation, missing):
        monkeypatch.setattr(onednn, "_fused_linear", wrong)
        assert not check(dtype)


def test_precision_by_name_and_by_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert large_dtype("float32") == torch.float32
    assert large_dtype("bfloat16") == torch.bfloat16
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda native=native: native)
        assert large_dtype("auto") == expected


@pytest.mark.parametrize("by_amx", [True, False])
def test_updates_on_small_batches_stay_in_float32_where_amx_would_slow_them(
    by_amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(onednn, "_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": by_amx})
    assert update_dtype("auto", onednn.AMX_ROWS) == torch.bfloat16
    assert update_dtype("auto", onednn.AMX_ROWS - 1) == (
        torch.float32 if by_amx else torch.bfloat16
    )
    # What is asked for by name is done.
    assert update_dtype("bfloat16", 1) == torch.bfloat16
    assert update_dtype("float32", 1000) == torch.float32


def test_without_oneDNN_no_processor_is_taken_to_multiply_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn, "has_fused_linear", lambda _dtype: False)
    assert not onednn.multiplies_bfloat16.__wrapped__()


def prepared(objective: str) -> MemberModels:
    model = make_model(objective, learns_reward=True)
    disturb(model)
    # Far from zero, where raw numbers in bfloat16 would tell nothing apart.
    model.input_normalizer.mean += 100.0
    model.target_normalizer.mean += 50.0
    return model.members(torch.tensor([0, 0, 1, 2, 2]))


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("objective", ["nll", "mse"])
def test_steps_in_bfloat16_are_close_to_those_in_float32(objective: str) -> None:
    members = prepared(objective)
    obs = 100 + torch.randn(5, 60, OBS_SIZE, generator=generator(1))
    action = 100 + torch.randn(5, 60, 1, generator=generator(2))
    noise = torch.randn(5, 1, OBS_SIZE, generator=generator(3))
    exact, rounded = (
        m.step(obs, action, noise) for m in (members, members.with_precision("bfloat16"))
    )
    for found, expected in zip(rounded, exact, strict=True):
        assert found is not None
        assert expected is not None
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        varies = (expected - (obs if expected.ndim == 3 else 0.0)).std()
        assert (found - expected).square().mean().sqrt() < 0.02 * varies


@pytest.mark.parametrize("large", [True, False])
def test_members_know_how_far_an_input_is_from_the_data(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_layers, "MIN_WORK", 0 if large else 2**40)
    model = make_model("bilevel_state_dependent", learns_reward=True)
    disturb(model)
    leverage = model.network.leverage
    assert leverage is not None
    for tensor in (leverage.root, leverage.average, leverage.slope):
        tensor.copy_(torch.randn(tensor.shape, generator=generator(4)))
    inputs = torch.randn(30, OBS_SIZE + 1, generator=generator(1))
    indices = torch.tensor([2, 0, 0, 1])
    found = model.members(indices).predict(inputs.expand(4, -1, -1))
    with torch.no_grad():
        x = model.input_normalizer.normalize(inputs)
        expected = model.network(x.expand(NUM_MEMBERS, -1, -1)).log_var[indices]
    expected = expected + 2 * model.target_normalizer.std.log()
    torch.testing.assert_close(found.log_var, expected, rtol=1e-4, atol=1e-4)
