"""Settings of the hypergradient tests."""

import torch

# The matrices are tiny: handing them to more threads makes these tests four times slower.
torch.set_num_threads(1)
