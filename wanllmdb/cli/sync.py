"""``sync push pull``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from wanllmdb import _clock, _names, _settings, _sync
from wanllmdb._catalog import artifacts, remotes
from wanllmdb._query import Api
from wanllmdb._sync import finding, status, verify
from wanllmdb._sync.choice import Choice
from wanllmdb._sync.peer import Peer, choose
from wanllmdb.cli.opening import api_of, project_option
from wanllmdb.cli.render import Output, echo, flush, output_options, tell
from wanllmdb.cli.words import ARTIFACT, REMOTE, RUN, TEXT
from wanllmdb.errors import (
    AmbiguousNameError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    RemoteUnreachableError,
    StoreLockedError,
)
from wanllmdb.types import RemoteRecord, SyncReport

PARTIAL = 10
"""Exit status: something is left for the next sync, or for people to settle."""

QUICK, SLOW = 10.0, 300.0
"""Seconds between the looks of --watch: while things change, and at most."""

_PLURALS = {
    "project": "projects", "run": "runs", "artifact": "artifacts",
    "version": "versions", "model": "models", "model_version": "model versions",
    "model_aliases": "models' aliases",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a line of the command asks for."""

    runs: tuple[str, ...]
    project: str | None
    artifacts: tuple[str, ...]
    since: str | None
    no_artifacts: bool

    def choice(self, api: Api, record: RemoteRecord, direction: str) -> Choice:
        """The uids that the words mean, here or else at the remote.

        Raises:
            NotFoundError: one means nothing.
        """
        there: list[finding.Index] = []

        def elsewhere(error: NotFoundError) -> finding.Index:
            if direction == "push":
                raise error
            if not there:
                there.append(finding.index(Peer(api.store, record)))
            return there[0]

        runs = frozenset(self._run(api, r, record, elsewhere) for r in self.runs)
        made = artifacts.made_by(api.store.catalog.reader, runs)
        return Choice(
            runs=runs,
            projects=frozenset(self._projects(api, record, elsewhere)),
            artifacts=frozenset(
                uid
                for name in self.artifacts
                for uid in self._artifact(api, name, record, elsewhere)
            )
            or frozenset(made),
            with_artifacts=not self.no_artifacts,
            since_us=_since(self.since),
        )

    def _run(
        self, api: Api, path: str, record: RemoteRecord,
        elsewhere: Callable[[NotFoundError], finding.Index],
    ) -> str:  # fmt: skip
        whole = (
            path if self.project is None or "/" in path else f"{self.project}/{path}"
        )
        try:
            return api.run(whole).record.uid
        except NotFoundError as error:
            return finding.run(elsewhere(error), path, self.project, record.name)

    def _projects(
        self, api: Api, record: RemoteRecord,
        elsewhere: Callable[[NotFoundError], finding.Index],
    ) -> set[str]:  # fmt: skip
        if self.project is None:
            return set()
        try:
            return {api.project(self.project).uid}
        except NotFoundError as error:
            return finding.projects(elsewhere(error), self.project, record.name)

    def _artifact(
        self, api: Api, path: str, record: RemoteRecord,
        elsewhere: Callable[[NotFoundError], finding.Index],
    ) -> set[str]:  # fmt: skip
        named, name, _ = _names.artifact_path(path)
        project = named or self.project
        reader = api.store.catalog.reader
        try:
            return {artifacts.uid(reader, artifacts.find(reader, project, name))}
        except AmbiguousNameError:
            raise
        except NotFoundError as error:
            return finding.artifacts(elsewhere(error), path, project, record.name)


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return _clock.parse(text, _clock.now_us())
    except ValueError as error:
        raise InvalidInputError(
            f"--since {text!r} is no time.", hint="Write 2026-01-31T12:00, or -3d."
        ) from error


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all three commands take."""
    for option in (
        click.argument("runs", metavar="[RUN...]", nargs=-1, type=RUN),
        project_option,
        click.option("--artifact", "artifacts", multiple=True, type=ARTIFACT,
                     help="Only this artifact."),
        click.option("--remote", type=REMOTE, help="Name or URL; else the default."),
        click.option("--since", type=TEXT, metavar="TIME",
                     help="Only runs started since: 2026-01-31, or -3d."),
        click.option("--no-artifacts", is_flag=True, help="Runs alone."),
        click.option("--dry-run", is_flag=True, help="Only say what waits."),
        click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C."),
        output_options,
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_options
@click.option("--full", is_flag=True, help="Fetch the bytes of files, too.")
@click.option("--verify", "verifying", is_flag=True, help="Compare all afterwards.")
@click.option("--status", "asking", is_flag=True, help="Say what is where; no network.")
@click.pass_context
def sync(
    ctx: click.Context, /, full: bool, verifying: bool, asking: bool, **line: Any
) -> None:
    """Pull, then push: all, or some runs, a project, artifacts."""
    if asking:
        _tell_status(api_of(ctx), line["out"])
        return
    if verifying and line["watch"]:
        raise click.UsageError("--verify and --watch do not go together.")
    _command(ctx, "both", line, full=full, verifying=verifying)


@click.command()
@_options
@click.pass_context
def push(ctx: click.Context, /, **line: Any) -> None:
    """Tell the remote what is new here."""
    _command(ctx, "push", line)


@click.command()
@_options
@click.option("--full", is_flag=True, help="Fetch the bytes of files, too.")
@click.pass_context
def pull(ctx: click.Context, /, full: bool, **line: Any) -> None:
    """Take over what others told the remote."""
    _command(ctx, "pull", line, full=full)


def _command(
    ctx: click.Context, direction: str, line: Mapping[str, Any], *, full: bool = False,
    verifying: bool = False,
) -> None:  # fmt: skip
    api, out = api_of(ctx, create=direction != "push"), line["out"]
    wanted = _Wanted(line["runs"], line["project"], line["artifacts"], line["since"],
                     line["no_artifacts"])  # fmt: skip
    named = line["remote"] or _settings.load(api.store.path)["remote"]
    record = choose(api.store, named, add=not line["dry_run"])
    if line["dry_run"]:
        _tell_waiting(
            api, record, wanted.choice(api, record, direction), direction, out
        )
        return

    def once() -> SyncReport:
        choice = wanted.choice(api, record, direction)
        return _sync.sync(api.store, record, choice, direction=direction, full=full)

    if line["watch"]:
        _watch(once, out)
    started = _clock.now_us()
    report = once()
    _tell(report, out)
    if verifying:
        _verify(Peer(api.store, record))
    found = remotes.conflicts(api.store.catalog.reader)
    if report.partial or any(each.found_us >= started for each in found):
        ctx.exit(PARTIAL)


def _watch(once: Callable[[], SyncReport], out: Output) -> None:
    """Sync until Ctrl-C: soon again where something happened, else ever later."""
    pause, trouble = QUICK, ""
    while True:
        try:
            report = once()
        except (RemoteUnreachableError, StoreLockedError) as error:
            if str(error) != trouble:  # told once, and tried again
                trouble = str(error)
                tell(f"{error} It is tried again.")
            pause = min(SLOW, pause * 2)
        else:
            trouble = ""
            if _is_anything(report):
                _tell(report, out)
                flush()
            pause = QUICK if _is_anything(report) else min(SLOW, pause * 2)
        time.sleep(pause)


def _is_anything(report: SyncReport) -> bool:
    return bool(report.pushed or report.pulled or report.rows_pushed
                or report.rows_pulled or report.notices or report.failed)  # fmt: skip


def _tell(report: SyncReport, out: Output) -> None:
    if out.fmt != "table":
        out.emit([asdict(report)])
    else:
        out.text("".join(f"{line}\n" for line in _lines(report)))
    for line in report.notices:
        tell(line)
    for line in report.failed:
        tell(f"Left for the next sync: {line}")


def _lines(report: SyncReport) -> list[str]:
    lines = [
        f"{word}: {report.pushed.get(entity, 0)} pushed,"
        f" {report.pulled.get(entity, 0)} pulled"
        for entity, word in _PLURALS.items()
        if entity in report.pushed or entity in report.pulled
    ]
    if report.rows_pushed or report.rows_pulled:
        lines.append(f"rows: {report.rows_pushed} pushed, {report.rows_pulled} pulled")
    if report.bytes_written or report.bytes_read:
        lines.append(
            f"bytes: {report.bytes_written} written in {report.objects_written}"
            f" objects, {report.bytes_read} read"
        )
    return lines or [f"{report.remote}: nothing new"]


def _tell_waiting(
    api: Api, record: RemoteRecord, choice: Choice, direction: str, out: Output
) -> None:
    peer = Peer(api.store, record)
    peer.check()
    rows = status.waiting(peer, choice, direction)
    if out.fmt != "table":
        out.emit(rows, ("what", "count", "direction"))
    elif not rows:
        echo(f"{record.name}: nothing new")
    else:
        for row in rows:
            word = _PLURALS.get(row["what"], row["what"])
            echo(f"{word}: {row['count']} to {row['direction']}")


def _verify(peer: Peer) -> None:
    found = 0
    for problem in verify.problems(peer):
        echo(problem)
        found += 1
    if found:
        raise IntegrityError(
            f"{found} things differ between this Store and {peer.record.name}.",
            hint="`wanllmdb store verify` and `wanllmdb remote verify` tell which side"
            " has changed.",
        )
    echo(f"Verified: this Store and {peer.record.name} hold the same.")


def _tell_status(api: Api, out: Output) -> None:
    found = status.of_store(api.store)
    if out.fmt != "table":
        out.emit(found)
        return
    if not found:
        echo("There is no remote; `wanllmdb remote add NAME URL` adds one.")
    for each in found:
        for line in status.lines(each, _PLURALS):
            echo(line)
    for conflict in remotes.conflicts(api.store.catalog.reader):
        echo(f"conflict: {status.told(api.store.catalog.reader, conflict)}")


COMMANDS = {"sync": sync, "push": push, "pull": pull}
