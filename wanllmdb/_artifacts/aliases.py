"""An artifact's aliases, as methods of its handle."""

from __future__ import annotations

from abc import ABC, abstractmethod

from wanllmdb import _names, _resolving, _versions
from wanllmdb._catalog import aliases
from wanllmdb._store import Store
from wanllmdb.types import Event, VersionRecord


class HasAliases(ABC):
    """A version whose aliases can be moved one by one, each durable on return."""

    _aliases: list[str]

    @property
    @abstractmethod
    def _is_nowhere(self) -> bool: ...

    @abstractmethod
    def _place(self) -> Store: ...

    @abstractmethod
    def _committed(self) -> VersionRecord: ...

    @abstractmethod
    def _follow(self, store: Store, record: VersionRecord) -> None: ...

    def add_alias(
        self,
        alias: str,
        *,
        expected: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> None:
        """Let an alias name this version, whatever it named before.

        Args:
            alias: Unique in the artifact, whatever the case.
            expected: The number of the version that it must name now, 0 for none.
            force: Move a protected alias too.
            reason: Why, for the history.

        Raises:
            InvalidNameError: it is no alias, or one that is derived.
            AliasConflictError: it is protected, or names something else than expected.
        """
        if self._is_nowhere:
            self._aliases = [*self._aliases, _names.alias(alias)]
            return
        store = self._place()
        moved = _versions.move_alias(
            store, self._committed(), alias, expected=expected, force=force,
            reason=reason,
        )  # fmt: skip
        self._follow(store, moved)

    def remove_alias(
        self,
        alias: str,
        *,
        expected: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> None:
        """Remove an alias of the artifact; as `add_alias`.

        Raises:
            AliasNotFoundError: the artifact has none of that name.
            AliasConflictError: it is protected, or names something else than expected.
        """
        if self._is_nowhere:
            self._aliases = [name for name in self._aliases if name != alias]
            return
        store = self._place()
        left = _versions.remove_alias(
            store, self._committed(), alias, expected=expected, force=force,
            reason=reason,
        )  # fmt: skip
        self._follow(store, left)

    def undo_alias(self, alias: str, *, force: bool = False) -> int | None:
        """Take back the last move of an alias that was not taken back yet.

        Returns:
            The number of the version that it names then; None for none.

        Raises:
            StateError: there is nothing to undo.
            VersionNotFoundError: what it named before is in the trash.
        """
        if self._is_nowhere:
            return None
        store = self._place()
        number = _versions.undo_alias(store, self._committed(), alias, force=force)
        self._follow(store, _versions.read_again(store, self._committed()))
        return number

    def resolve_alias(self, alias: str, take: str) -> int | None:
        """Settle an alias that two laptops moved; durable, told by the next sync.

        Args:
            alias: Its name.
            take: ``mine``: what it named here; ``theirs``: what the remote says.

        Returns:
            The number of the version that it names then; None for none.

        Raises:
            InvalidInputError: it has no such conflict, or `take` is neither.
        """
        if self._is_nowhere:
            return None
        store, record = self._place(), self._committed()
        number = _resolving.resolve_alias(store, record, alias, take)
        self._follow(store, _versions.read_again(store, record))
        return number

    def protect_alias(self, alias: str, *, on: bool = True) -> None:
        """Let an alias be moved and removed by force only; ``on=False`` lifts that.

        Raises:
            AliasNotFoundError: the artifact has none of that name.
        """
        if not self._is_nowhere:
            _versions.protect_alias(self._place(), self._committed(), alias, on=on)

    def alias_history(self, alias: str) -> list[Event]:
        """Every move of an alias, oldest first: who, when, from and to which number."""
        if self._is_nowhere:
            return []
        return aliases.history(self._place().catalog.reader, self._committed(), alias)
