"""Every snippet of the README and the docs runs, and every command in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_snippets_run(page, tmp_path):
    """The snippets of a page run in order, in one namespace, in an empty directory."""
    code = "\n".join(blocks(page, "python"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_run(page, tmp_path):
    """The commands of a page exit with 0 after the demo was recorded."""
    commands = [line[2:] for block in blocks(page, "console")
                for line in block.splitlines() if line.startswith("$ ")]  # fmt: skip
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in [f"{sys.executable} -m wanllmdb demo --steps 20", *commands]:
        command = command.replace("wanllmdb ", f"{sys.executable} -m wanllmdb ", 1) \
            if command.startswith("wanllmdb ") else command  # fmt: skip
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, text=True,
                              capture_output=True, timeout=60, check=False)  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
