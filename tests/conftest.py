"""Settings of all tests."""

import pytest
import torch

# The tensors are small, and several test processes may share the machine.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first: the processes then finish together."""
    items.sort(key=lambda item: item.get_closest_marker("learning") is None)
