"""Real S3 servers on this machine, for tests: moto, rclone and Ceph's radosgw.

Each is a context manager with an empty folder of its own and with credentials of its
own. Daemons get SIGKILL from the kernel when the test process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

SECONDS = 60.0
"""How long a server may take to be ready, and any one step of its making."""

WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""What makes a daemon end with its parent; Linux has it."""

# The kernel takes the *thread* that started a daemon for its parent. This one lives as
# long as the process does, so any thread of a test may kill and restart servers.
_parent = ThreadPoolExecutor(1, "servers")


@contextlib.contextmanager
def sockets() -> Iterator[None]:
    """Allow internet sockets, which tests/no_sockets refuses, for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLOW_TEST_SOCKETS", "1")
        yield


def need(*commands: str) -> None:
    """Skip, by name, where one of these commands is not installed."""
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at; somebody may before they are used."""
    with contextlib.ExitStack() as held:
        found = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        for one in found:
            held.enter_context(one)
        return [one.getsockname()[1] for one in found]


class Server:
    """An S3 server with one user, who may do anything.

    Subclasses say how it is made (`create`) and which daemons it is (`start`).

    Attributes:
        port: Where it listens; kept over restarts.
        url: Its endpoint, `http://127.0.0.1:PORT`.
        key, secret: The user's credentials, new for each server.
    """

    ports = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = "K" + secrets.token_hex(8).upper()
        self.secret = secrets.token_hex(16)
        self.port = 0
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with sockets():
            try:
                self._attempt()
            except (TimeoutError, subprocess.SubprocessError):
                self._attempt()  # another process may have taken a port: with new ones
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create(self) -> None:
        """Make what the daemons start with; the folder is empty."""

    def start(self) -> None:
        """Start the daemons that do not run, and wait until requests are answered."""
        raise NotImplementedError

    def kill(self, *names: str) -> None:
        """Kill daemons by SIGKILL: these, or all."""
        for name in names or tuple(self.daemons):
            daemon = self.daemons.pop(name)
            daemon.kill()
            daemon.wait(SECONDS)

    def restart(self, *names: str) -> None:
        """Kill daemons, these or all, and start them anew on the same data and port."""
        self.kill(*names)
        self.start()

    def system(self, **more: Any) -> Any:
        """A new s3fs file system of the user; `more` overrides its arguments."""
        s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
        arguments = {
            "key": self.key,
            "secret": self.secret,
            "client_kwargs": {"endpoint_url": self.url},
            "config_kwargs": {"s3": {"addressing_style": "path"}},
            "use_listings_cache": False,
            "skip_instance_cache": True,
        }
        return s3fs.S3FileSystem(**{**arguments, **more})

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.system().mkdir(name)
        return name

    def run(self, *command: str) -> str:
        """Run a tool in the folder; return what it printed."""
        with (self.folder / "tools.log").open("ab") as log:
            return subprocess.run(
                [*WITH_PARENT, *command],
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=SECONDS,
                check=True,
            ).stdout

    def spawn(self, name: str, *command: str) -> bool:
        """Start a daemon unless it runs; whether it was started."""
        if name in self.daemons:
            return False
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = _parent.submit(
                subprocess.Popen,
                [*WITH_PARENT, *command],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the keyboard's ^C is for pytest alone
            ).result()
        return True

    def environment(self) -> dict[str, str]:
        """What tools and daemons see: nothing of the developer's but the PATH."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def wait(self, name: str) -> None:
        """Wait until a daemon answers requests at the port.

        Raises:
            TimeoutError: It ended, or does not answer; with its last words.
        """
        end = time.monotonic() + SECONDS
        while self.daemons[name].poll() is None and time.monotonic() < end:
            if self.answers():
                return
            time.sleep(0.05)
        said = (self.folder / f"{name}.log").read_text("utf-8", "replace")
        raise TimeoutError(f"{name} does not answer at {self.url}: {said[-2000:]}")

    def answers(self) -> bool:
        """Whether a request of nobody's is answered, if only by a refusal."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.closing(client):
            try:
                client.request("GET", "/")
                return client.getresponse().status < 500
            except (OSError, http.client.HTTPException):
                return False

    def _attempt(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.port, *self.others = free_ports(self.ports)
        try:
            self.create()
            self.start()
        except BaseException:
            self.kill()
            raise


class Moto(Server):
    """moto: in memory, atomic exclusive create; it believes any credentials."""

    def start(self) -> None:
        pytest.importorskip("moto", reason="needs moto[server]")
        port = str(self.port)
        self.spawn("moto", sys.executable, "-W", "ignore", "-m", "moto.server",
                   "-H", "127.0.0.1", "-p", port)  # fmt: skip
        self.wait("moto")


class Rclone(Server):
    """rclone: files in a folder, with authentication and no exclusive create."""

    def create(self) -> None:
        need("rclone")
        (self.folder / "data").mkdir()

    def start(self) -> None:
        # By the environment: what a command line holds, all users of a machine see.
        self.spawn("rclone", "rclone", "serve", "s3", "--addr",
                   f"127.0.0.1:{self.port}", "data")  # fmt: skip
        self.wait("rclone")

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "RCLONE_AUTH_KEY": f'"{self.key},{self.secret}"',
            "RCLONE_CONFIG": "",  # none, in memory
        }


CEPH = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
public addr = 127.0.0.1
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
crash dir = {folder}
log file = {folder}/$name.log
admin socket =
# radosgw connects to nothing without authentication
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
# one disk, one copy
osd objectstore = bluestore
bluestore block create = true
bluestore block size = 10737418240
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
# 12 s to be ready with what Ceph waits by default, for others to speak
mon tick interval = 1
paxos propose interval = 0.05
# its one user's: a killed gateway would be asked for 30 s what it has cached
rgw cache enabled = false
rgw frontends = beast endpoint=127.0.0.1:{port}

[osd]
# relative, for the path of a socket ends at 107 bytes
admin socket = osd.asok
"""


class Cluster(Server):
    """Ceph's radosgw on a cluster of one: durable, with real authentication.

    Its daemons are `mon`, `osd` and `radosgw`. All killed and started anew takes 3 s,
    radosgw alone 0.1 s.
    """

    ports = 2

    def create(self) -> None:
        need("setpriv", "ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        fsid, (mon,) = str(uuid.uuid4()), self.others
        conf = CEPH.format(fsid=fsid, mon=mon, port=self.port, folder=self.folder)
        (self.folder / "ceph.conf").write_text(conf, "utf-8")
        self._create_mon(fsid, mon)
        self._create_osd()
        self.run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
                 f"--access-key={self.key}", f"--secret-key={self.secret}")  # fmt: skip

    def start(self) -> None:
        self._start_mon()
        self._start_osd()
        self.spawn("radosgw", "radosgw", "-f", "-n", "client.admin", "--no-mon-config")
        self.wait("radosgw")

    def environment(self) -> dict[str, str]:
        return super().environment() | {"CEPH_CONF": str(self.folder / "ceph.conf")}

    def _create_mon(self, fsid: str, port: int) -> None:
        self.run("ceph-authtool", "keyring", "--create-keyring", "--gen-key",
                 "-n", "mon.", "--cap", "mon", "allow *")  # fmt: skip
        self.run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin",
                 "--cap", "mon", "allow *", "--cap", "osd", "allow *")  # fmt: skip
        address = f"v2:127.0.0.1:{port}"
        self.run("monmaptool", "monmap", "--create", "--fsid", fsid,
                 "--addv", "a", f"[{address}]")  # fmt: skip
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap",
                 "--keyring", "keyring")  # fmt: skip

    def _create_osd(self) -> None:
        self._start_mon()
        disk = str(uuid.uuid4())
        self._ceph("osd", "new", disk)
        key = self._ceph("auth", "get-or-create", "osd.0",
                         "mon", "allow profile osd", "osd", "allow *")  # fmt: skip
        (self.folder / "osd" / "keyring").write_text(key, "utf-8")
        with (self.folder / "keyring").open("a", encoding="utf-8") as keyring:
            keyring.write(key)
        self.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", disk)
        self._start_osd()

    def _start_mon(self) -> None:
        self.spawn("mon", "ceph-mon", "-f", "-i", "a")

    def _start_osd(self) -> None:
        """A client that asks before the OSD is active sleeps for 5 to 10 s."""
        if not self.spawn("osd", "ceph-osd", "-f", "-i", "0"):
            return
        end = time.monotonic() + SECONDS
        while self.daemons["osd"].poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.CalledProcessError):  # no socket yet
                said = self._ceph("daemon", "./osd.asok", "status")
                if '"active"' in said:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"the OSD does not become active, see {self.folder}")

    def _ceph(self, *command: str) -> str:
        return self.run("ceph", "--connect-timeout", "30", *command)
