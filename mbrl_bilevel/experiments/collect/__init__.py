"""Recording of datasets."""

from mbrl_bilevel.experiments.collect.run import collect

__all__ = ["collect"]
