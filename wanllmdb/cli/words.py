"""The words of a command line: text as it was typed, and what completes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from wanllmdb._query import Api

    _ParamType = click.ParamType[str]
else:  # which click 8.2 does not let be subscripted
    _ParamType = click.ParamType

MAX_OFFERED = 1000
"""Runs that completion looks at, the newest ones: TAB must answer at once."""


class Text(_ParamType):
    """Text in UTF-8, whatever the locale makes of it."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The text that was typed."""
        text = str(value)
        if text.isascii():
            return text
        try:
            return os.fsencode(text).decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{text!a} is not UTF-8.", param, ctx)
        except UnicodeEncodeError:  # it never was an argument of the system
            return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the Store offers; nothing where anything is wrong with it."""
        from click.shell_completion import CompletionItem

        del param
        try:
            with _api(ctx) as api:
                found = dict.fromkeys(self.offers(api, ctx, incomplete))
        except Exception:  # noqa: BLE001 - TAB never answers with an error
            return []
        return [
            CompletionItem(word)
            for word in found
            if word.startswith(incomplete) and word.isprintable() and " " not in word
        ]

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Words that may fit; nothing for plain text."""
        del api, ctx, incomplete
        return iter(())


class Run(Text):
    """A run: id, name, prefix of an id, ``project/...`` or ``@last``.

    Args:
        deleted: Complete with those in the trash.
    """

    name = "run"

    def __init__(self, *, deleted: bool = False) -> None:
        self._deleted = deleted

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Paths where a project was begun, else ids and names."""
        from wanllmdb._catalog import runs

        project = incomplete.rpartition("/")[0]
        deleted = self._deleted and ctx.params.get("epoch") is None
        for record in runs.find_many(
            api.store.catalog.reader, project=project or None, limit=MAX_OFFERED,
            deleted=deleted,
        ):  # fmt: skip
            if project:
                yield f"{record.project}/{record.run_id}"
            else:
                yield record.run_id
                if incomplete:
                    yield record.name
        if not project and not deleted:
            yield "@last"


class Key(Text):
    """A metric of the run that the command names."""

    name = "key"

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """What the run logged."""
        del incomplete
        yield from api.run(ctx.params["run"]).keys


class RunOrKey(Run):
    """What `plot` takes: runs first, then metrics."""

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Runs, and what the first of them logged."""
        yield from super().offers(api, ctx, incomplete)
        if words := ctx.params.get("words"):
            yield from api.run(words[0]).keys


class Project(Text):
    """A project's name."""

    name = "project"

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Every project."""
        del ctx, incomplete
        yield from (project.name for project in api.projects())


class Model(Text):
    """A model's name."""

    name = "model"

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Every model."""
        from wanllmdb._catalog import models

        del ctx, incomplete
        yield from (model.name for model in models.listed(api.store.catalog.reader))


@contextmanager
def _api(ctx: click.Context) -> Iterator[Api]:
    from wanllmdb._query import Api

    with Api(ctx.find_root().params.get("store")) as api:
        yield api


class Artifact(Text):
    """An artifact, with a version or without."""

    name = "artifact"

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Names, with the project where one was begun; and the aliases of one."""
        del ctx
        project, slash, _ = incomplete.rpartition("/")
        for found in api.artifacts(project=project or None)[:MAX_OFFERED]:
            path, _, _ = found.qualified_name.partition(":")
            name = path if slash else path.rpartition("/")[2]
            yield name
            if incomplete.startswith(f"{name}:"):
                for version in api.artifacts(name=path):
                    yield from (
                        f"{name}:{a}" for a in [version.version, *version.aliases]
                    )


class Remote(Text):
    """A remote's name."""

    name = "remote"

    def offers(self, api: Api, ctx: click.Context, incomplete: str) -> Iterator[str]:
        """Every remote."""
        from wanllmdb._catalog import remotes

        del ctx, incomplete
        yield from (one.name for one in remotes.listed(api.store.catalog.reader))


TEXT, RUN, TRASHED, KEY = Text(), Run(), Run(deleted=True), Key()
RUN_OR_KEY, PROJECT = RunOrKey(), Project()
ARTIFACT, MODEL, REMOTE = Artifact(), Model(), Remote()
