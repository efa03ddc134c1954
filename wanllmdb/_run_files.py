"""Files that a run keeps: `save`, `log_code`, and what lies in `run.dir`."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from wanllmdb import _layout
from wanllmdb._store import Store
from wanllmdb._voice import Voice
from wanllmdb.errors import DiskBudgetError, InvalidInputError
from wanllmdb.types import RunRecord, Source

POLICIES = ("live", "end", "now")
_LEFT_OUT = ("__pycache__", "node_modules")


class RunFiles:
    """The files of one run.

    Args:
        store: Its Store; None where nothing is recorded.
        record: The run.
        voice: Told of what could not be saved.
    """

    def __init__(self, store: Store | None, record: RunRecord, voice: Voice) -> None:
        self._store = store
        self._record = record
        self._voice = voice
        self._watched: list[tuple[str, Path, str]] = []

    def save(self, pattern: str, base: str | None, policy: str) -> list[str]:
        """Store what a path or glob matches now, and remember it for `save_again`.

        Raises:
            InvalidInputError: the policy is unknown.
        """
        if policy not in POLICIES:
            raise InvalidInputError(
                f"save() has no policy {policy!r}.", hint=f"Use {', '.join(POLICIES)}."
            )
        try:
            root = Path(base).absolute() if base else Path.cwd()
            sources = list(_matches(pattern, root, policy))
        except FileNotFoundError as error:
            return self._nowhere("save", error)
        if not sources:
            self._voice.warn_once(
                f"save {pattern}", f"save({pattern!r}) matched no file."
            )
        if policy != "now":
            self._watched.append((str(Path(pattern).absolute()), root, policy))
        self._store_all(sources)
        return [str(source.path) for source in sources]

    def log_code(
        self,
        root: str | os.PathLike[str],
        include: Callable[..., bool],
        exclude: Callable[..., bool],
    ) -> list[str]:
        """Store source files below a directory, under ``code/``."""
        try:
            top = Path(root).absolute()
        except FileNotFoundError as error:
            return self._nowhere("log_code", error)
        sources = []
        for path in _source_files(top):
            if _ask(include, path, top) and not _ask(exclude, path, top):
                name = f"code/{path.relative_to(top).as_posix()}"
                sources.append(Source(path, name, "now"))
        self._store_all(sources)
        return [str(source.path) for source in sources]

    def _nowhere(self, what: str, error: FileNotFoundError) -> list[str]:
        """The working directory was deleted: relative names lead nowhere."""
        self._voice.survived(what, error)
        self._voice.warn_once(what, f"{what}: the working directory is gone.")
        return []

    def save_again(self) -> None:
        """Store what changed since: files saved before, and new ones of their globs."""
        if self._store is None:
            return
        known = {file.source: file for file in self._store.data.files(self._record.pk)}
        sources = [
            Source(Path(file.source), file.path, file.policy)
            for file in known.values()
            if file.source and file.policy != "now"
        ]
        for pattern, root, policy in self._watched:
            sources += [
                source for source in _matches(pattern, root, policy)
                if str(source.path) not in known
            ]  # fmt: skip
        changed = []
        for source in sources:
            before = known.get(str(source.path))
            try:
                now = source.path.stat().st_mtime_ns
            except OSError:  # it vanished: the last copy stays
                continue
            if before is None or before.mtime_ns != now:
                changed.append(source)
        self._store_all(changed)

    def _store_all(self, sources: list[Source]) -> None:
        # To open and close a Catalog here would drop the locks that SQLite has on it.
        sources = [s for s in sources if not _layout.is_catalog(s.path)]
        if self._store is not None and sources:
            with self._voice.guarded("save files"):
                self._store.data.store_files(self._record.pk, sources, self.not_stored)

    def not_stored(self, source: Source, error: OSError | DiskBudgetError) -> None:
        """Warn of a file that could not be read or stored."""
        self._voice.survived(f"save {source.path}", error)
        text = (
            str(error) if isinstance(error, DiskBudgetError)
            else f"{source.path} could not be saved: {error.strerror}."
        )  # fmt: skip
        self._voice.warn_once(f"save {source.path}", text)


def _matches(pattern: str, root: Path, policy: str) -> Iterator[Source]:
    """Files of a path or glob; directories with all that they hold."""
    for match in sorted(globbing.glob(pattern, recursive=True)):
        path = Path(os.path.abspath(match))  # noqa: PTH100 - takes ".." out, not links
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                inside = file.is_relative_to(root)
                name = file.relative_to(root).as_posix() if inside else file.name
                yield Source(file, name, policy)


def _source_files(top: Path) -> Iterator[Path]:
    """Every file below a directory, but for hidden and environment directories."""
    for directory, folders, names in os.walk(top):
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and name not in _LEFT_OUT
            and not (Path(directory) / name / "pyvenv.cfg").exists()
        )  # fmt: skip
        for name in sorted(names):
            yield Path(directory) / name


def _ask(question: Callable[..., bool], path: Path, root: Path) -> bool:
    try:
        return question(str(path), str(root))
    except TypeError:  # W&B accepts functions of one argument too
        return question(str(path))
