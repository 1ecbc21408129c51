"""Heads: how the outputs of any model are read as a distribution over targets."""

from mbrl_bilevel.heads.base import Head
from mbrl_bilevel.heads.categorical import CategoricalHead
from mbrl_bilevel.heads.gaussian import DiagonalGaussianHead, FullGaussianHead, GaussianHead

__all__ = ["CategoricalHead", "DiagonalGaussianHead", "FullGaussianHead", "GaussianHead", "Head"]
