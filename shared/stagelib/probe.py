"""A classifier on frozen embeddings: what a user of the embeddings would lose, on the same samples for both models."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagelib import similarity
from stagelib.similarity import Floats

RESAMPLES = 2000
CONFIDENCE = 0.95
STRENGTH = 0.1
"""Inverse strength of the classifier's regularization: there are more features than samples."""

Labels = NDArray[np.int64]


def features(premise: Floats, hypothesis: Floats) -> Floats:
    """What the classifier sees of a pair: both embeddings, their difference and their product, [pairs, 4 * hidden].

    One scale for all: scaled each by its own spread, a feature that hardly differs between texts would be mostly
    quantization's noise, and as loud as any other.
    """
    scale = np.sqrt(premise.shape[1])
    left, right = similarity.normalized(premise) * scale, similarity.normalized(hypothesis) * scale
    joined: Floats = np.concatenate([left, right, np.abs(left - right), left * right], axis=1)
    return joined


def right_answers(
    fp32: Floats, optimized: Floats, labels: Labels, train: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the pairs after the first `train` each model gets right; the classifier has seen fp32's features only.

    `fp32` and `optimized` are features of the same pairs, [pairs, features].
    """
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=STRENGTH, max_iter=2000)
    classifier.fit(fp32[:train], labels[:train])
    expected = labels[train:]
    return classifier.predict(fp32[train:]) == expected, classifier.predict(optimized[train:]) == expected


def compare(fp32: NDArray[np.bool_], optimized: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """Accuracies of paired answers [samples], their difference with its bootstrap interval, and McNemar's exact test.

    `only_fp32` and `only_optimized` count the samples that one of the two alone gets right: all a difference rests on.
    """
    from scipy.stats import binomtest

    lost, won = int((fp32 & ~optimized).sum()), int((optimized & ~fp32).sum())
    difference = fp32.astype(np.float64) - optimized.astype(np.float64)
    generator = np.random.default_rng(seed)
    means = generator.choice(difference, size=(RESAMPLES, len(difference))).mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return {
        "fp32": float(fp32.mean()),
        "optimized": float(optimized.mean()),
        "drop": float(difference.mean()),
        "drop_interval": [float(low), float(high)],
        "mcnemar_p": float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
        "only_fp32": lost,
        "only_optimized": won,
        "samples": len(difference),
    }


def chance(labels: Labels) -> float:
    """Accuracy of always answering the commonest label."""
    return max(Counter(labels.tolist()).values()) / len(labels)
