"""How good predicted shares of classes are."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

NUM_BINS = 15


def classification_metrics(logits: Tensor, y: Tensor) -> dict[str, Any]:
    """Return test metrics of logits `[N, C]` for classes `[N]`.

    `accuracy`, `balanced_accuracy` (mean recall of the classes that occur), `nll` in nats, `ece`
    and, of two classes, `roc_auc`; None where it is not defined.
    """
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    log_probs = logits.double().log_softmax(dim=-1)
    probs = log_probs.exp().numpy()
    labels, predicted = y.numpy(), log_probs.argmax(dim=-1).numpy()
    with warnings.catch_warnings():
        # A class that is predicted and does not occur is no error of the caller's.
        warnings.simplefilter("ignore", UserWarning)
        balanced = float(balanced_accuracy_score(labels, predicted))
    roc_auc = None
    if probs.shape[1] == 2 and len(np.unique(labels)) == 2:
        roc_auc = float(roc_auc_score(labels, probs[:, 1]))
    return {
        "accuracy": float((labels == predicted).mean()),
        "nll": torch.nn.functional.nll_loss(log_probs, y).item(),
        "ece": expected_calibration_error(log_probs.exp(), y),
        "balanced_accuracy": balanced,
        "roc_auc": roc_auc,
    }


def expected_calibration_error(probs: Tensor, y: Tensor, num_bins: int = NUM_BINS) -> float:
    """Return the mean distance of confidence and accuracy, of predicted classes in equal bins.

    Naeini, Cooper and Hauskrecht (2015); as in Guo et al. (2017), the confidence is the largest
    probability, and a bin counts by how many samples it holds.

    Args:
        probs: `[N, C]`.
        y: Classes, `[N]`.
        num_bins: Of equal width.
    """
    confidence, predicted = probs.max(dim=-1)
    gap = (predicted == y).to(probs.dtype) - confidence
    bins = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    sums = torch.zeros(num_bins, dtype=probs.dtype).index_add_(0, bins, gap)
    return (sums.abs().sum() / len(y)).item()
