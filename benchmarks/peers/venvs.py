"""A virtual environment for each system, made once and kept.

``python benchmarks/peers/venvs.py`` makes those that are missing; `run.py` does it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
OURS = "wanllmdb"
# The newest releases on the day of the table; numpy where a system brings none,
# for everybody's answer is a numpy array.
REQUIREMENTS = {
    OURS: ["pandas==3.1.1"],  # and the checkout itself
    "trackio": ["trackio==0.43.0", "numpy"],
    "wandb": ["wandb==0.31.0", "numpy"],
    "mlflow": ["mlflow==3.17.2"],
    # The writer has no reader: that is TensorBoard's.
    "tensorboardx": ["tensorboardX==2.6.5", "tensorboard==2.21.0"],
    "aim": ["aim==3.29.1"],
}
PACKAGES = {system: [system] for system in REQUIREMENTS} | {
    "tensorboardx": ["tensorboardX", "tensorboard"]
}
VERSIONS = (
    "import sys; from importlib.metadata import version;"
    "print(*(f'{name} {version(name)}' for name in sys.argv[1:]), sep=', ')"
)


def default_directory() -> Path:
    """Where environments are kept unless told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "wanllmdb-peers")


def make(directory: Path, system: str) -> Path:
    """Make a system's environment, unless it is there; its interpreter."""
    environment = directory / system
    python = environment / "bin" / "python"
    made_with = environment / "made-with.txt"
    wanted = "\n".join(REQUIREMENTS[system])
    if not made_with.exists() or made_with.read_text() != wanted:
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", environment], check=True
        )
        _install(python, *REQUIREMENTS[system])
        made_with.write_text(wanted)
    if system == OURS:  # the checkout changes without a new version
        _install(python, CHECKOUT)
        _install(python, "--force-reinstall", "--no-deps", CHECKOUT)
    return python


def versions(python: Path, system: str) -> str:
    """What is installed, as the package itself tells."""
    done = subprocess.run(
        [python, "-c", VERSIONS, *PACKAGES[system]], check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    return done.stdout.strip()


def _install(python: Path, *what: str | Path) -> None:
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         *what], check=True,
    )  # fmt: skip


def main() -> None:
    """Make all environments in the default place."""
    for system in REQUIREMENTS:
        print(versions(make(default_directory(), system), system), flush=True)


if __name__ == "__main__":
    main()
