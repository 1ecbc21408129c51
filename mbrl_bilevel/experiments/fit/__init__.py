"""Dynamics models fitted to recorded episodes, by several objectives: `mbrl-bilevel fit`."""

from mbrl_bilevel.experiments.fit.run import fit

__all__ = ["fit"]
