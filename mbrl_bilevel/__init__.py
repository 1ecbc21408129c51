"""Model-based reinforcement learning with bilevel, reward-driven dynamics models."""

__version__ = "0.1.0"
