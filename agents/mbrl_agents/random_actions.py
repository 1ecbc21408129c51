"""Actions drawn uniformly, as features."""

import torch
from torch import Tensor

from mbrl_agents.planning import make_plans
from mbrl_bilevel.data import ActionCodec


def random_features(codec: ActionCodec, num_actions: int, generator: torch.Generator) -> Tensor:
    """Return features `[N, A]` of actions drawn uniformly from a codec's space.

    Args:
        codec: Of the space.
        num_actions: N.
        generator: On the CPU.
    """
    plans = make_plans(codec, 1.0, codec.device)
    noise = torch.randn(num_actions, 1, codec.size, generator=generator).to(codec.device)
    return plans.uniform(noise, batch_size=1)[0, :, 0]
