"""The WAL stays small, and filesystems that cannot carry one are told apart."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time

import pytest

CHURN = """
import sys, wanllmdb
run = wanllmdb.init(id=sys.argv[1])
for i in range(int(sys.argv[2])):
    run.config.update({"big": str(i % 10) * 100_000})
print("churned", flush=True); sys.stdin.readline()
run.finish()
"""
MIB = 1 << 20


@pytest.fixture
def wal_bytes(store):
    """The size of the write-ahead log now."""
    path = store / "catalog.db-wal"
    return lambda: path.stat().st_size if path.exists() else 0


def test_many_commits_leave_a_small_wal(spawn, wal_bytes):
    """Two writers of some 150 MB each: past 4 MiB somebody makes a checkpoint."""
    children = [spawn(CHURN, name, 300) for name in "ab"]
    for process in children:
        process.stdin.write("\n")
        process.stdin.flush()
    biggest = 0
    deadline = time.monotonic() + 40
    while None in [p.poll() for p in children] and time.monotonic() < deadline:
        biggest = max(biggest, wal_bytes())
        time.sleep(0.01)
    assert [process.wait(30) for process in children] == [0, 0]
    assert 0 < biggest < 96 * MIB


def test_a_clean_exit_truncates_the_wal(child, wal_bytes):
    """What is closed can be read from the one file."""
    child(CHURN, "a", 20)
    assert wal_bytes() == 0


def test_a_long_reader_keeps_its_snapshot_and_the_wal_is_bounded(
    child, spawn, store, wal_bytes
):
    """The reader sees one moment; once it left, the WAL grows no further."""
    child(CHURN, "a", 1)
    reader = sqlite3.connect(store / "catalog.db", isolation_level=None)
    reader.execute("BEGIN")
    query = "SELECT count(*), max(substr(config, 1, 20)) FROM run"
    before = reader.execute(query).fetchone()
    writer = spawn(CHURN, "b", 60)
    writer.stdout.readline()
    assert reader.execute(query).fetchone() == before
    grown = wal_bytes()
    reader.execute("COMMIT")
    assert reader.execute(query).fetchone()[0] == 2
    reader.close()
    assert grown < 64 * MIB
    second = spawn(CHURN, "c", 60)
    second.stdout.readline()
    assert wal_bytes() < grown + 8 * MIB


# A filesystem type that mountinfo might name, seen by this process alone.
SHARED = """
import warnings
from wanllmdb import _files
_files.filesystem_type = lambda path: {type!r}
"""
RECORD = """
import wanllmdb, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        with wanllmdb.init() as run: run.log({"x": 1})
print(*[w.message for w in said], sep="\\n")
"""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "gpfs", "fuse.sshfs", "9p",
                                  "virtiofs", "fuse", "beegfs"])  # fmt: skip
def test_a_shared_filesystem_gets_a_rollback_journal_and_one_warning(
    child, sql, store, kind
):
    """No WAL where shared memory cannot be trusted; `buffered` is suggested."""
    said = child(SHARED.format(type=kind) + RECORD).stdout.strip()
    assert len(said.splitlines()) == 1
    assert "network filesystem" in said
    assert "buffered" in said
    assert sql("PRAGMA journal_mode") == [("delete",)]
    assert not (store / "catalog.db-wal").exists()
    assert sql("SELECT count(*) FROM run WHERE state = 'finished'") == [(2,)]


def test_a_local_filesystem_gets_a_wal_and_no_warning(child, sql):
    """ext4, xfs, tmpfs and the like are trusted."""
    assert child(RECORD).stdout.strip() == ""
    assert sql("PRAGMA journal_mode") == [("wal",)]


def test_four_processes_record_on_a_shared_filesystem(spawn, api):
    """The rollback journal takes turns; no run is lost."""
    code = SHARED.format(type="nfs4") + "import sys; sys.stderr = None\n" + RECORD * 5
    children = [spawn(code) for _ in range(4)]
    assert [process.wait(50) for process in children] == [0] * 4
    found = api.runs()
    assert [run.state for run in found] == ["finished"] * 40
    assert all(run.summary["x"] == 1 for run in found)


def test_a_store_moved_to_a_shared_filesystem_changes_its_journal(child, sql):
    """What was made in WAL mode is opened without one there, and back again."""
    child(RECORD)
    child(SHARED.format(type="nfs4") + RECORD)
    assert sql("PRAGMA journal_mode") == [("delete",)]
    child(RECORD)
    assert sql("PRAGMA journal_mode") == [("wal",)]
    assert sql("SELECT count(*) FROM run") == [(6,)]


LOOPBACK = """
import errno, os, sys, mfusepy
root = sys.argv[1]
class Loopback(mfusepy.Operations):
    use_ns = True
    def getattr(self, path, fh=None):
        s = os.lstat(path)
        return {k: getattr(s, k) for k in ("st_mode", "st_nlink", "st_size", "st_uid",
                "st_gid", "st_ino")} | {
                k: getattr(s, k + "_ns") for k in ("st_atime", "st_mtime", "st_ctime")}
    access = lambda self, path, mode: 0
    chmod = lambda self, path, mode: os.chmod(path, mode)
    chown = lambda self, path, uid, gid: os.chown(path, uid, gid)
    create = lambda self, path, mode, fi=None: os.open(path, os.O_RDWR | os.O_CREAT,
                                                       mode)
    open = lambda self, path, flags: os.open(path, flags & ~os.O_APPEND)
    read = lambda self, path, size, offset, fh: os.pread(fh, size, offset)
    write = lambda self, path, data, offset, fh: os.pwrite(fh, data, offset)
    release = lambda self, path, fh: os.close(fh)
    flush = lambda self, path, fh: 0
    fsync = lambda self, path, datasync, fh: os.fsync(fh)
    fsyncdir = lambda self, path, datasync, fh: 0
    mkdir = lambda self, path, mode: os.mkdir(path, mode)
    rmdir = lambda self, path: os.rmdir(path)
    unlink = lambda self, path: os.unlink(path)
    readdir = lambda self, path, fh: [".", "..", *os.listdir(path)]
    rename = lambda self, old, new: os.rename(old, root + new)
    link = lambda self, target, source: os.link(root + source, target)
    def truncate(self, path, length, fh=None):
        os.truncate(path if fh is None else fh, length)
    def statfs(self, path):
        s = os.statvfs(path)
        return {k: getattr(s, k) for k in ("f_bsize", "f_frsize", "f_blocks", "f_bfree",
                "f_bavail", "f_files", "f_ffree", "f_namemax")}
def below(real):
    return lambda self, path, *args: real(self, root + path, *args)
for name, real in list(vars(Loopback).items()):
    if callable(real): setattr(Loopback, name, below(real))
mfusepy.FUSE(Loopback(), sys.argv[2], foreground=True)
"""


@pytest.fixture
def fuse(tmp_path):
    """A real FUSE mount, where mfusepy, libfuse3 and root are at hand."""
    pytest.importorskip("mfusepy", reason="needs mfusepy and libfuse3")
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    behind, mount = tmp_path / "behind", tmp_path / "mount"
    behind.mkdir()
    mount.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-c", LOOPBACK, behind, mount], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while not os.path.ismount(mount) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert os.path.ismount(mount)
    yield mount
    subprocess.run(["umount", "-l", mount], check=False)
    server.terminate()
    server.wait(10)


def test_four_processes_record_on_a_real_fuse_mount(fuse, spawn, child):
    """Detection, rollback journal and locks work on a user-space filesystem."""
    place = {**os.environ, "WANLLMDB_DIR": str(fuse / "store")}
    children = [spawn(RECORD, env=place) for _ in range(4)]
    said = [process.communicate(timeout=50) for process in children]
    assert [process.returncode for process in children] == [0] * 4, said
    assert all(out.count("network filesystem") == 1 for out, _ in said)
    listed = child("import wanllmdb; print(*[r.state for r in wanllmdb.Api().runs()])",
                   env=place).stdout  # fmt: skip
    assert listed.split() == ["finished"] * 8
    assert not (fuse / "store" / "catalog.db-wal").exists()
