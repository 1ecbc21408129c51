"""Whole experiments: a training run, the evaluation of one."""

from mbrl_bilevel.experiments.evaluate import evaluate_run
from mbrl_bilevel.experiments.train import train

__all__ = ["evaluate_run", "train"]
