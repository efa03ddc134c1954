"""The demo's training: a small network, in plain Python, learns two moons.

Data: two interleaved half circles, points at angle t in [0, pi] of
(cos t, sin t) and (1 - cos t, 0.5 - sin t), plus normal noise. Source of the formula:
scikit-learn's `make_moons`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

Point = tuple[float, float, int]


def make_moons(samples: int, noise: float, rng: random.Random) -> list[Point]:
    """`samples` labelled points of two half circles, shuffled."""
    points = []
    for index in range(samples):
        label = index % 2
        angle = math.pi * rng.random()
        x, y = math.cos(angle), math.sin(angle)
        if label:
            x, y = 1 - x, 0.5 - y
        points.append((x + rng.gauss(0, noise), y + rng.gauss(0, noise), label))
    rng.shuffle(points)
    return points


class Network:
    """Two inputs, one hidden layer of tanh units, one logistic output."""

    def __init__(self, hidden: int, rng: random.Random) -> None:
        self.inner = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(hidden)]
        self.outer = [rng.gauss(0, 0.5) for _ in range(hidden + 1)]

    def predict(self, x: float, y: float) -> tuple[float, list[float]]:
        """The probability of label 1, and the hidden activations."""
        hidden = [math.tanh(a * x + b * y + c) for a, b, c in self.inner]
        score = self.outer[-1] + sum(
            w * h for w, h in zip(self.outer, hidden, strict=False)
        )
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, score)))), hidden

    def learn(self, batch: list[Point], rate: float) -> float:
        """One step of gradient descent; returns the mean cross-entropy before it."""
        loss = 0.0
        for x, y, label in batch:
            p, hidden = self.predict(x, y)
            loss -= math.log(max(1e-12, p if label else 1 - p))
            error = (p - label) * rate / len(batch)
            for unit, h in enumerate(hidden):
                back = error * self.outer[unit] * (1 - h * h)
                self.outer[unit] -= error * h
                for index, value in enumerate((x, y, 1.0)):
                    self.inner[unit][index] -= back * value
            self.outer[-1] -= error
        return loss / len(batch)


def train(
    steps: int, learning_rate: float, hidden: int, samples: int, noise: float
) -> Iterator[dict[str, float]]:
    """Train, yielding the metrics of each step; every 10th with validation."""
    rng = random.Random(7)
    points = make_moons(samples, noise, rng)
    cut = samples * 3 // 4
    network = Network(hidden, rng)
    for step in range(steps):
        batch = rng.sample(points[:cut], 32)
        metrics = {"train/loss": network.learn(batch, learning_rate)}
        if step % 10 == 0 or step == steps - 1:
            right = sum(
                (network.predict(x, y)[0] > 0.5) == bool(label)
                for x, y, label in points[cut:]
            )
            metrics["val/accuracy"] = right / (samples - cut)
        yield metrics
