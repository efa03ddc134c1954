"""Lineage: which runs made a version and which read it, as far as one likes to follow.

Runs and versions that are in the trash are in it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from wanllmdb._catalog import artifacts, runs
from wanllmdb._store import Store
from wanllmdb.types import RunRecord, VersionRecord

UPSTREAM, DOWNSTREAM = "upstream", "downstream"


@dataclass(frozen=True, slots=True)
class Node:
    """A run or a version.

    Attributes:
        kind: ``run`` or ``version``.
        pk: Its key.
        path: ``project/run``, or ``project/artifact:vN``.
        deleted: Whether it is in the trash.
    """

    kind: str
    pk: int
    path: str
    deleted: bool


@dataclass(slots=True)
class Lineage:
    """What was found around a run or a version.

    Attributes:
        start: Where it was begun.
        nodes: Every run and version, `start` first.
        edges: (from, to), in the direction that the bytes went.
    """

    start: Node
    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[Node, Node]] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Nodes and edges for programs."""
        return {
            "start": self.start.path,
            "nodes": [
                {"kind": n.kind, "path": n.path, "deleted": n.deleted}
                for n in self.nodes
            ],
            "edges": [{"from": a.path, "to": b.path} for a, b in self.edges],
        }

    def as_dot(self) -> str:
        """A graph as Graphviz reads it."""
        shapes = {"run": "ellipse", "version": "box"}
        lines = [
            f"  {_quoted(n.kind + ' ' + n.path)} [label={_quoted(n.path)},"
            f" shape={shapes[n.kind]}];"
            for n in self.nodes
        ]
        lines += [
            f"  {_quoted(a.kind + ' ' + a.path)} -> {_quoted(b.kind + ' ' + b.path)};"
            for a, b in self.edges
        ]
        return "\n".join(["digraph lineage {", "  rankdir=LR;", *lines, "}"]) + "\n"

    def as_tree(self) -> Iterator[tuple[int, str, Node, bool]]:
        """(depth, direction, node, whether it stood here before), line by line."""
        for direction in (UPSTREAM, DOWNSTREAM):
            seen: set[Node] = set()
            waiting = [
                (1, node) for node in reversed(self._next(self.start, direction))
            ]
            while waiting:
                depth, node = waiting.pop()
                yield depth, direction, node, node in seen
                if node not in seen:
                    seen.add(node)
                    further = reversed(self._next(node, direction))
                    waiting += [(depth + 1, other) for other in further]

    def _next(self, node: Node, direction: str) -> list[Node]:
        if direction == UPSTREAM:
            return [a for a, b in self.edges if b == node]
        return [b for a, b in self.edges if a == node]


def of_version(
    store: Store, version: VersionRecord, depth: int | None = None
) -> Lineage:
    """What a version was made from, and what was made with it.

    Args:
        store: Where.
        version: Which.
        depth: Steps to follow; None: all.
    """
    return _walked(store, _version_node(version), depth)


def of_run(store: Store, run: RunRecord, depth: int | None = None) -> Lineage:
    """What a run read and made, and so on; as `of_version`."""
    return _walked(store, _run_node(run), depth)


def _walked(store: Store, start: Node, depth: int | None) -> Lineage:
    found = Lineage(start, [start])
    known, edges = {start}, set()
    for direction in (UPSTREAM, DOWNSTREAM):
        here, steps = [start], 0
        reached = {start}
        while here and (depth is None or steps < depth):
            further = []
            for node in here:
                for other in _beside(store, node, direction):
                    edge = (other, node) if direction == UPSTREAM else (node, other)
                    if edge not in edges:
                        edges.add(edge)
                        found.edges.append(edge)
                    if other not in known:
                        known.add(other)
                        found.nodes.append(other)
                    if other not in reached:
                        reached.add(other)
                        further.append(other)
            here, steps = further, steps + 1
    return found


def _beside(store: Store, node: Node, direction: str) -> list[Node]:
    reader = store.catalog.reader
    if node.kind == "run":
        which = "input" if direction == UPSTREAM else "output"
        return [_version_node(v) for v in artifacts.of_run(reader, node.pk, which)]
    which = "output" if direction == UPSTREAM else "input"
    keys = artifacts.runs_of(reader, node.pk, which)
    return [_run_node(runs.read(reader, pk)) for pk in keys]


def _version_node(version: VersionRecord) -> Node:
    return Node("version", version.pk, version.path, version.deleted_us is not None)


def _run_node(run: RunRecord) -> Node:
    return Node("run", run.pk, run.path, run.deleted_us is not None)


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
