"""The palette, measured: it can be seen, and told apart, by everyone."""

from __future__ import annotations

from itertools import combinations

import numpy as np  # noqa: TID253 - colours are vectors
import pytest

from wanllmdb._report.style import DARK, LIGHT

# What people with each kind of colour blindness see: Machado, Oliveira, Fernandes, "A
# physiologically-based model for simulation of color vision deficiency" (2009).
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868],
                            [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968],
                              [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779],
                            [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805],
                   [0.2126, 0.7152, 0.0722],
                   [0.0193, 0.1192, 0.9505]])  # fmt: skip
SCHEMES = pytest.mark.parametrize(
    ("palette", "card"), [(LIGHT, "#ffffff"), (DARK, "#1a1e22")], ids=["light", "dark"]
)


def linear(color):
    """Linear red, green and blue of a colour of sRGB."""
    parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIE 1976 L*a*b*, in which distances are those that people see."""
    x, y, z = TO_XYZ @ np.clip(light, 0, 1) / np.array([0.9505, 1, 1.089])
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116
                  for v in (x, y, z))  # fmt: skip
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@SCHEMES
def test_every_line_stands_out_from_its_card(palette, card):
    """At least 3:1, as WCAG 2.1 asks of graphics."""
    behind = TO_XYZ[1] @ linear(card) + 0.05
    for color in palette:
        line = TO_XYZ[1] @ linear(color) + 0.05
        assert max(line, behind) / min(line, behind) >= 3, color


@SCHEMES
@pytest.mark.parametrize("eyes", EYES)
def test_any_two_lines_are_told_apart(palette, card, eyes):
    """With whatever kind of colour vision; 2.3 is a just noticeable difference."""
    del card
    seen = {color: lab(EYES[eyes] @ linear(color)) for color in palette}
    for one, other in combinations(palette, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 20, (one, other)
