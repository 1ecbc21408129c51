"""Dynamics models fitted to recorded episodes, by several objectives: `mbrl-bilevel fit`."""

from mbrl_bilevel.experiments.fit.resume import open_fit
from mbrl_bilevel.experiments.fit.run import fit

__all__ = ["fit", "open_fit"]
