"""The paper's figures, recomputed."""

from mbrl_bilevel.experiments.reproduce.run import reproduce

__all__ = ["reproduce"]
