"""AdamW by a direct call of the fused kernel, against PyTorch's own step."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mbrl_bilevel.dynamics import fused_adamw
from mbrl_bilevel.dynamics.fused_adamw import FusedAdamW, has_fused_kernel
from tests.dynamics.cases import generator

SHAPES = ((2, 3, 4), (2, 1, 4))


def parameters() -> list[Tensor]:
    draws = generator(3)
    return [torch.randn(shape, generator=draws).requires_grad_() for shape in SHAPES]


def groups(weight: Tensor, bias: Tensor) -> list[dict[str, Any]]:
    return [{"params": [weight], "weight_decay": 0.3}, {"params": [bias], "weight_decay": 0.0}]


def descend(optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        draws = generator(100 + step)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (1 + step)
            for parameter in group["params"]:
                parameter.grad = torch.randn(parameter.shape, generator=draws)
        optimizer.step()


def by_pytorch(steps: range) -> tuple[torch.optim.AdamW, list[Tensor]]:
    expected = parameters()
    optimizer = torch.optim.AdamW(groups(*expected), lr=0.1, fused=True)
    descend(optimizer, steps)
    return optimizer, expected


def calls(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one with every call of the kernel by `FusedAdamW` itself."""
    counted: list[None] = []
    call = fused_adamw._call_kernel

    def counting(*arguments: Any) -> None:
        counted.append(None)
        call(*arguments)

    monkeypatch.setattr(fused_adamw, "_call_kernel", counting)
    return counted


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_steps_are_pytorchs_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_fused_kernel()
    counted = calls(monkeypatch)
    ours = parameters()
    descend(FusedAdamW(groups(*ours), lr=0.1), range(7))
    assert same(ours, by_pytorch(range(7))[1])
    assert len(counted) == 6 * 2  # the first step is PyTorch's


@pytest.mark.parametrize("by_ours", [True, False], ids=["to_pytorchs", "from_pytorchs"])
def test_one_goes_on_from_the_others_state(by_ours: bool) -> None:
    first, middle, last = by_pytorch(range(4))[1], parameters(), by_pytorch(range(9))[1]
    if by_ours:
        before: torch.optim.Optimizer = FusedAdamW(groups(*middle), lr=0.1)
        after: Any = torch.optim.AdamW
    else:
        before = torch.optim.AdamW(groups(*middle), lr=0.1, fused=True)
        after = FusedAdamW
    descend(before, range(4))
    assert same(middle, first)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    optimizer = after(groups(*middle), lr=0.1, **({"fused": True} if by_ours else {}))
    optimizer.load_state_dict(torch.load(file))
    descend(optimizer, range(4, 9))
    assert same(middle, last)


def test_what_is_loaded_after_steps_takes_their_place() -> None:
    saved = by_pytorch(range(4))[0].state_dict()
    ours = parameters()
    optimizer = FusedAdamW(groups(*ours), lr=0.1)
    descend(optimizer, range(20, 25))
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        for parameter, value in zip(ours, by_pytorch(range(4))[1], strict=True):
            parameter.copy_(value)
    descend(optimizer, range(4, 9))
    assert same(ours, by_pytorch(range(9))[1])


def test_a_copy_goes_on_by_itself() -> None:
    ours = parameters()
    optimizer = FusedAdamW(groups(*ours), lr=0.1)
    descend(optimizer, range(4))
    copied = copy.deepcopy(optimizer)
    descend(copied, range(4, 9))
    its_own = [parameter for group in copied.param_groups for parameter in group["params"]]
    assert same(its_own, by_pytorch(range(9))[1])
    assert same(ours, by_pytorch(range(4))[1])


@pytest.fixture
def forget() -> Iterator[None]:
    has_fused_kernel.cache_clear()
    yield
    has_fused_kernel.cache_clear()


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("error", [AttributeError, TypeError, None])
def test_a_kernel_that_is_missing_or_another_is_not_called(
    error: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(group: dict[str, Any], *_: Any) -> None:
        if error is not None:
            raise error("no such kernel")
        group["params"][0].add_(1)

    monkeypatch.setattr(fused_adamw, "_call_kernel", other)
    assert not has_fused_kernel()
    ours = parameters()
    descend(FusedAdamW(groups(*ours), lr=0.1), range(7))
    assert same(ours, by_pytorch(range(7))[1])


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="no closure"):
        FusedAdamW(groups(*parameters()), lr=0.1).step(lambda: 0.0)
