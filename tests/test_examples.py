"""The examples do what they say, on real data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path):
    """Each example checks itself and exits with 0."""
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, text=True,
                          capture_output=True, timeout=240, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
