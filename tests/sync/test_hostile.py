"""A remote that somebody else writes: refused by name, and nothing is half applied."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
from pathlib import Path
from typing import Any

import pytest
from caring import command
from laptops import Laptop

from wanllmdb import _clock
from wanllmdb.errors import IntegrityError, NewerRemoteError, RemoteError

EVIL = "e" * 32
"""The device of a hostile laptop."""

BATCH = {
    "format": 1, "device": EVIL, "seq": 1, "nonce": "0", "hlc": 1, "at_us": 1,
    "host": "elsewhere", "seen": {}, "documents": [], "sets": [], "aliases": [],
    "events": [], "objects": [],
}  # fmt: skip


def told(remote: Path, device: str | None = None, seq: int = 1) -> dict[str, Any]:
    """What an honest batch tells."""
    (found,) = remote.glob(f"log/{device or '*'}/{seq:010d}.json")
    return json.loads(found.read_text())


def tell(remote: Path, raw: object, device: str = EVIL, seq: int = 1) -> None:
    """Write a batch as a hostile laptop would."""
    path = remote / "log" / device / f"{seq:010d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    path.write_bytes(data)


@pytest.fixture
def honest(a: Laptop, remote: Path) -> dict[str, Any]:
    """What a laptop tells of a run, a version and an alias."""
    run = a.begin(id="r1", config={"lr": 0.1}, tags=["t"])
    run.log({"loss": 1.0})
    run.alert("high", "text")
    run.finish()
    a.commit("content", aliases=["prod"])
    a.sync()
    (device,) = [path.name for path in (remote / "log").iterdir()]
    return told(remote, device)


def forged(honest: dict[str, Any]) -> dict[str, Any]:
    """The same as another device's batch, so that it is looked at."""
    return {**copy.deepcopy(honest), "device": EVIL}


def document(raw: dict[str, Any], entity: str) -> dict[str, Any]:
    return next(each for each in raw["documents"] if each["entity"] == entity)


def files_of(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def refused(laptop: Laptop, remote: Path, raw: object, match: str = "") -> None:
    """Sync with the batch: it is named, and leaves no trace."""
    laptop.pull()
    before = files_of(remote)
    tell(remote, raw)
    with laptop.opened() as store:
        names = store.catalog.reader.execute(
            "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM project),"
            " (SELECT count(*) FROM version), (SELECT count(*) FROM alias)"
        ).fetchone()
    report = laptop.pull()
    assert any(f"batch 1 of device {EVIL}" in line for line in report.failed), match
    assert match in "\n".join(report.failed)
    with laptop.opened() as store:
        after = store.catalog.reader.execute(
            "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM project),"
            " (SELECT count(*) FROM version), (SELECT count(*) FROM alias)"
        ).fetchone()
    assert tuple(after) == tuple(names)
    left = files_of(remote)
    del left[f"log/{EVIL}/0000000001.json"]
    assert left == before
    (remote / "log" / EVIL / "0000000001.json").unlink()


def put(raw: Any, path: tuple[Any, ...], value: object) -> None:
    for step in path[:-1]:
        raw = raw[step]
    raw[path[-1]] = value


WRONG = {
    "run uid": ("run", ("uid",), "../../../etc/passwd"),
    "run id": ("run", ("fields", "run_id", "v"), "../x"),
    "project": ("project", ("fields", "name", "v"), "../p"),
    "artifact": ("artifact", ("fields", "name", "v"), "../../data"),
    "type": ("artifact", ("fields", "type", "v"), "a/b"),
    "digest": ("version", ("digest",), "sha256:../../x"),
    "number": ("version", ("number",), 10**18),
    "negative number": ("version", ("number",), -1),
    "negative size": ("version", ("size",), -1),
    "size that is NaN": ("version", ("size",), float("nan")),
    "clock of a field": ("run", ("fields", "name", "at"), (1 << 63) - 1),
    "time": ("run", ("fields", "record", "v", "started_us"), (1 << 63) - 1),
    "state": ("run", ("fields", "record", "v", "state"), "owned"),
    "text for a number": ("run", ("created_us",), "1"),
    "bool for a number": ("run", ("created_us",), True),
    "epoch": ("run", ("epochs", 0, 0), 1 << 62),
    "stream": ("run", ("streams", 0, 0), "../../x"),
    "no record": ("run", ("fields", "record"), {"at": 0, "by": ""}),
    "unknown entity": ("run", ("entity",), "root"),
    "unknown key": ("run", ("extra",), 1),
    "unknown field": ("run", ("fields", "password"), {"at": 0, "by": "", "v": 1}),
    "NUL": ("run", ("fields", "notes", "v"), "a\0b"),
    "half a character": ("run", ("fields", "notes", "v"), "\ud800"),
    "own parent": ("run", ("parent",), {"uid": "", "epoch": 1, "step": 0, "marks": {}}),
    "blob that is a path": (
        "run", ("fields", "config.lr", "v"), {"~b": {"digest": "../x", "size": 1}},
    ),
    "blob of another shape": ("run", ("fields", "config.lr", "v"), {"~b": {"a": 1}}),
    "file outside": (
        "run", ("files",), [["../../x", "sha256:" + "0" * 64, 1, "now", None, 1, 1]],
    ),
    "absolute file": (
        "run", ("files",), [["/etc/x", "sha256:" + "0" * 64, 1, "now", None, 1, 1]],
    ),
    "tag": ("run", ("tags", 0, 0), ""),
    "definition": ("run", ("definitions",), [[1, 0, "loss", "{"]]),
    "alert's level": ("run", ("alerts", 0, 2), "PANIC"),
    "lineage": ("version", ("edges", 0, 1), "sideways"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_document_that_no_store_of_ours_would_write_is_refused(
    b, remote, honest, what
):
    entity, path, value = WRONG[what]
    raw = forged(honest)
    found = document(raw, entity)
    found["uid"] = found["uid"] if entity == "project" else "d" * 32
    put(found, path, value)
    if what == "own parent":
        found["parent"]["uid"] = found["uid"]
    refused(b, remote, raw)


OUTSIDE = {
    "part's name": lambda raw: put(raw, ("sets", 0, "parts", 0, 0), "../../x.parquet"),
    "part's key": lambda raw: put(raw, ("sets", 0, "parts", 0, 5), "../../etc/passwd"),
    "batch as a part": lambda raw: put(raw, ("sets", 0, "parts", 0, 5), "log/x"),
    "size of a part": lambda raw: (
        put(raw, ("sets", 0, "parts", 0, 2), 10**15),
        put(raw, ("sets", 0, "parts", 0, 7), 10**15),
    ),
    "digest of a part": lambda raw: put(raw, ("sets", 0, "parts", 0, 1), "0" * 64),
    "digest of rows": lambda raw: put(raw, ("sets", 0, "ranges", 0, 9), "0" * 64),
    "run of rows": lambda raw: put(raw, ("sets", 0, "ranges", 0, 0), "../x"),
    "project of rows": lambda raw: put(raw, ("sets", 0, "project"), "../../x"),
    "epoch of rows": lambda raw: put(raw, ("sets", 0, "ranges", 0, 3), 1 << 62),
    "object's key": lambda raw: put(raw, ("objects", 0, 1), "blobs/../../x"),
    "object's digest": lambda raw: put(raw, ("objects", 0, 0), "sha256:x"),
    "object's size": lambda raw: put(raw, ("objects", 0, 3), -5),
    "alias": lambda raw: put(raw, ("aliases", 0, 1), "../../prod"),
    "derived alias": lambda raw: put(raw, ("aliases", 0, 1), "latest"),
    "alias's generation": lambda raw: put(raw, ("aliases", 0, 2), 10**18),
    "alias's target": lambda raw: put(raw, ("aliases", 0, 3), "../x"),
    "event": lambda raw: put(raw, ("events", 0, 8), "{"),
    "another device": lambda raw: put(raw, ("device",), "f" * 32),
    "another number": lambda raw: put(raw, ("seq",), 2),
    "clock": lambda raw: put(raw, ("hlc",), (1 << 63) - 1),
    "clock beyond 64 bits": lambda raw: put(raw, ("hlc",), 1 << 63),
    "what it saw": lambda raw: put(raw, ("seen",), {"../x": 1}),
    "a part twice": lambda raw: raw["sets"].append(copy.deepcopy(raw["sets"][0])),
}  # fmt: skip


@pytest.mark.parametrize("what", OUTSIDE)
def test_a_batch_that_leads_elsewhere_is_refused(b, remote, honest, what):
    raw = forged(honest)
    OUTSIDE[what](raw)
    refused(b, remote, raw)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b"7", b"\xff\xfe", b"[" * 1_000_000,
        b'{"format":' + b"9" * 10_000 + b"}", json.dumps(BATCH).encode()[:-9],
        b'{"a":' * 50_000,
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused(b, remote, a, data):
    a.run("r1")
    a.sync()
    refused(b, remote, data)


def test_a_document_that_is_nested_deeply_is_refused(b, remote, honest):
    raw = forged(honest)
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    document(raw, "run")["fields"]["config.deep"] = {"at": 1, "by": EVIL, "v": deep}
    refused(b, remote, raw, "nested")


def test_a_bad_batch_stops_neither_the_device_nor_others(b, remote, honest):
    tell(remote, b"{}", seq=1)
    later = {**forged(honest), "seq": 2, "sets": [], "events": []}
    run = document(later, "run")
    run["uid"] = "d" * 32
    run["fields"]["run_id"]["v"] = "later"
    run |= {"streams": [], "rows": [], "epochs": []}
    tell(remote, {**later, "documents": [document(later, "project"), run]}, seq=2)
    report = b.pull()
    assert len(report.failed) == 1
    assert {"p/r1", "p/later"} <= b.runs.keys()
    again = b.pull()
    assert len(again.failed) == 1  # it is looked at again, and told again


def test_a_huge_batch_is_refused_by_its_size_before_it_is_read(a, b, remote):
    a.run("r1")
    a.sync()
    path = remote / "log" / EVIL / "0000000001.json"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(300 << 20)
    b.pull()
    path.rename(path.with_name("kept"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path.with_name("kept").rename(path)
    assert any("is larger than" in line for line in b.pull().failed)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10
    assert "p/r1" in b.runs


def test_forks_of_each_other_wait_and_harm_nobody(b, remote, honest):
    raw = forged(honest)
    one, other = document(raw, "run"), copy.deepcopy(document(raw, "run"))
    for mine, theirs, run in (("1", "2", one), ("2", "1", other)):
        run["uid"] = mine * 32
        run["fields"]["run_id"]["v"] = f"fork{mine}"
        parent = {"uid": theirs * 32, "epoch": 1, "step": 0, "marks": {}}
        run |= {"parent": parent, "streams": [], "rows": [], "epochs": []}
    project = document(raw, "project")
    tell(remote, {**BATCH, "documents": [project, one, other]})
    report = b.pull()
    assert any("fork of one that is not known" in line for line in report.failed)
    assert b.runs.keys() == {path for path in b.runs if "fork" not in path}


def test_a_clock_that_runs_ahead_is_told_of_and_not_taken_over(b, remote):
    ahead = _clock.now_us() + 365 * 86_400_000_000
    tell(remote, {**BATCH, "hlc": ahead})
    report = b.pull()
    assert any("runs ahead" in line for line in report.notices)
    with b.opened() as store:
        (hlc,) = store.catalog.reader.execute(
            "SELECT value FROM meta WHERE key = 'hlc'"
        ).fetchone()
    assert int(hlc) < ahead


def test_a_newer_remote_is_refused_and_left_alone(a, remote):
    a.run("r1")
    a.sync()
    raw = json.loads((remote / "wanllmdb.json").read_text())
    (remote / "wanllmdb.json").chmod(0o600)
    (remote / "wanllmdb.json").write_text(json.dumps({**raw, "format": 2}))
    before = files_of(remote)
    a.run("r2")
    with pytest.raises(NewerRemoteError, match="format 2"):
        a.sync()
    assert files_of(remote) == before


def test_a_newer_batch_is_refused_by_name(b, remote):
    tell(remote, {**BATCH, "format": 2})
    with pytest.raises(NewerRemoteError, match=f"Batch 1 of device {EVIL}"):
        b.pull()


@pytest.mark.parametrize(
    "text", ['{"format": 1, "uid": "' + "0" * 32 + '"}', "{}", "[", "[" * 5000]
)
def test_another_remote_than_it_was_is_refused(a, remote, text):
    a.run("r1")
    a.sync()
    (remote / "wanllmdb.json").chmod(0o600)
    (remote / "wanllmdb.json").write_text(text)
    with pytest.raises(IntegrityError):
        a.sync()


def test_a_batch_of_our_own_that_we_never_wrote_is_somebody_elses(a, remote):
    a.run("r1")
    a.sync()
    device = a.device
    tell(remote, {**BATCH, "device": device, "seq": 2}, device=device, seq=2)
    a.run("r2")
    report = a.sync()
    assert any("is a copy" in line for line in report.notices)
    assert a.device != device
    assert not a.sync().failed


def test_a_symbolic_link_for_a_key_is_refused_and_not_followed(a, b, remote, tmp_path):
    a.run("r1")
    a.sync()
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (remote / "log" / EVIL).mkdir()
    (remote / "log" / EVIL / "0000000001.json").symlink_to(secret)
    with pytest.raises(RemoteError, match="link"):
        b.pull()
    assert secret.read_text() == "mine"


def test_a_manifest_of_a_million_entries_is_read_within_bounds(a, b, remote):
    """It is what it says, and nothing of it is fetched until it is used."""
    entries = [[f"f{n:07d}", "sha256:" + "0" * 64, 1] for n in range(1_000_000)]
    text = json.dumps({"format": 1, "entries": entries}, separators=(",", ":")) + "\n"
    data = text.encode()
    name = hashlib.sha256(data).hexdigest()
    a.commit("content")
    a.sync()
    raw = forged(told(remote))
    version = document(raw, "version")
    version |= {"uid": "d" * 32, "number": 9, "digest": f"sha256:{name}"}
    version |= {"files": 1_000_000, "size": 1_000_000, "run": None, "edges": []}
    key = f"blobs/{name[:2]}/{name}"
    (remote / key).parent.mkdir(parents=True, exist_ok=True)
    (remote / key).write_bytes(data)
    told_of = [document(raw, "project"), document(raw, "artifact"), version]
    objects = [[f"sha256:{name}", key, 0, len(data)]]
    tell(remote, {**BATCH, "documents": told_of, "objects": objects})
    assert not b.pull().failed
    done = command(b, "remote", "verify")
    assert done.returncode == 5
    assert "no batch places sha256:" + "0" * 64 in done.stdout
