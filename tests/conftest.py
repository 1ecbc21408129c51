"""Settings of all tests."""

import torch

# The tensors are small, and several test processes may share the machine.
torch.set_num_threads(1)
