"""The paper's figures, recomputed."""

from mbrl_bilevel.experiments.reproduce.run import can_resume, reproduce

__all__ = ["can_resume", "reproduce"]
