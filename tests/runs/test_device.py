import pytest
import torch

from mbrl_bilevel.errors import ConfigError
from mbrl_bilevel.runs.device import DeviceName, resolve_device


@pytest.mark.parametrize(
    ("name", "has_cuda", "expected"),
    [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")],
)
def test_devices(
    name: DeviceName, has_cuda: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert resolve_device(name) == torch.device(expected)


def test_missing_cuda_and_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda', but torch finds no CUDA device"):
        resolve_device("cuda")
    with pytest.raises(ConfigError, match="device: 'gpu'; allowed: 'auto', 'cpu', 'cuda'"):
        resolve_device("gpu")  # type: ignore[arg-type]
