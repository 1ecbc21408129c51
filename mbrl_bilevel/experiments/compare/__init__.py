"""Objectives compared: every task, objective and seed is a training run of its own."""

from mbrl_bilevel.experiments.compare.run import CompareResult, compare

__all__ = ["CompareResult", "compare"]
