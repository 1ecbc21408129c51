"""Learned dynamics: the Gaussian ensemble, the model around it, and its training."""

from mbrl_bilevel.dynamics.ensemble import GaussianEnsemble
from mbrl_bilevel.dynamics.members import MemberModels
from mbrl_bilevel.dynamics.model import DynamicsModel
from mbrl_bilevel.dynamics.normalizer import Normalizer
from mbrl_bilevel.dynamics.termination import TerminationClassifier
from mbrl_bilevel.dynamics.training import ModelTrainer

__all__ = [
    "DynamicsModel",
    "GaussianEnsemble",
    "MemberModels",
    "ModelTrainer",
    "Normalizer",
    "TerminationClassifier",
]
