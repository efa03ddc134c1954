"""No credential is found anywhere, whatever a sync came to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from caring import command
from laptops import Laptop
from proxy import Proxy, answer
from servers import Server

PROFILE_KEY = "AKIAPROFILE0000SECRET"
PROFILE_SECRET = "pr0file/secret+of=the0user0000000000000000"
TOKEN = "t0ken//of==a++session00000000000000"


@pytest.fixture
def secrets(
    moto: Server, moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What must not be found; it is in the environment and in a profile's file."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("WANLLMDB_DEBUG", "1")
    profile = tmp_path / "home" / ".aws" / "credentials"
    profile.parent.mkdir(parents=True)
    profile.write_text(
        f"[lab]\naws_access_key_id = {PROFILE_KEY}\n"
        f"aws_secret_access_key = {PROFILE_SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    return [moto.secret, moto.key, TOKEN, PROFILE_KEY, PROFILE_SECRET]


def written(done: subprocess.CompletedProcess[str]) -> bytes:
    return (done.stdout + done.stderr).encode()


def contents_of(place: Path) -> Iterator[tuple[str, bytes]]:
    for path in place.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def test_no_secret_is_in_the_store_the_remote_or_what_is_printed(
    tmp_path, moto, moto_url, moto_bucket, secrets
):
    a, b = Laptop(tmp_path / "a"), Laptop(tmp_path / "b")
    a.run("r1")
    a.commit("content", aliases=["prod"])
    b.run("r2")
    url = f"s3://{moto_bucket}/sync"
    options = ("--endpoint-url", moto_url, "--path-style")
    said = [
        command(a, "--debug", "remote", "add", "r", url, *options),
        command(a, "--debug", "sync"),
        command(b, "--debug", "remote", "add", "r", url, *options, "--profile", "lab"),
        command(b, "--debug", "sync"),
        command(b, "--debug", "remote", "ls", "--json"),
        command(b, "remote", "verify", "--level", "2"),
        command(b, "remote", "gc", "--yes"),
    ]
    assert not [each.stderr for each in said if each.returncode]
    wrong = [
        command(a, "--debug", "remote", "add", "x", "s3://no-bucket/x", *options),
        command(a, "--debug", "remote", "add", "y", url, "--profile", "nobody"),
        command(
            a, "--debug", "remote", "add", "z",
            f"s3://{secrets[1]}:{secrets[0]}@{moto_bucket}/x",
        ),
        command(
            a, "--debug", "remote", "add", "w", url,
            "--endpoint-url", f"http://{secrets[1]}:{secrets[0]}@127.0.0.1:1",
        ),
    ]  # fmt: skip
    assert all(each.returncode for each in wrong)
    found = list(contents_of(a.store)) + list(contents_of(b.store))
    system = moto.system()
    found += [(name, system.cat_file(name)) for name in system.find(moto_bucket)]
    found += [(str(each.args[4:7]), written(each)) for each in [*said, *wrong]]
    assert len(found) > 20
    for name, data in found:
        for secret in secrets:
            assert secret.encode() not in data, name


def test_no_secret_is_told_where_credentials_are_refused(
    tmp_path, moto_url, moto_bucket, secrets
):
    a = Laptop(tmp_path / "a")
    a.run("r1")
    code = f"<{secrets[0]}>"
    with Proxy(moto_url) as proxy:
        url = f"s3://{moto_bucket}/sync"
        options = ("--endpoint-url", proxy.url, "--path-style")
        assert command(a, "remote", "add", "r", url, *options).returncode == 0
        proxy.inject(answer(403, "SignatureDoesNotMatch"), times=1e9)
        denied = command(a, "--debug", "sync")
        proxy.heal()
        proxy.inject(answer(400, code), times=1e9)
        odd = command(a, "--debug", "sync")
        status = command(a, "--debug", "sync", "--status")
    assert denied.returncode == odd.returncode == 8
    found = [*contents_of(a.store), ("denied", written(denied)), ("odd", written(odd))]
    found.append(("status", written(status)))
    for name, data in found:
        for secret in secrets:
            assert secret.encode() not in data, name


def test_the_machinery_of_this_test_finds_a_secret(tmp_path: Path):
    (tmp_path / "file").write_text("a s3cret b")
    assert any(b"s3cret" in data for _, data in contents_of(tmp_path))
