"""Where a remote is: what is taken, what is refused, and that no secret is kept."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from wanllmdb._remotes import address as module
from wanllmdb._remotes.address import Address, open_remote, refuse_nested
from wanllmdb.errors import (
    InvalidInputError,
    RemoteDeniedError,
    WanllmdbWarning,
)

SECRET = "wJalrXUtnFEMI7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch, tmp_path):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "ENDPOINT_URL",
                 "ENDPOINT_URL_S3", "SESSION_TOKEN"):  # fmt: skip
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setattr(module, "_warned", set())


@pytest.mark.parametrize(("given", "kept"), [
    ("s3://bucket", "s3://bucket"),
    ("S3://bucket/", "s3://bucket"),
    ("s3a://bucket/a/b/", "s3://bucket/a/b"),
    ("s3://bucket/a b/ü", "s3://bucket/a b/ü"),
    ("memory://name/a", "memory://name/a"),
    ("/a/b", "file:///a/b"),
    ("/a/./b/../c/", "file:///a/c"),
    ("file:///a/b", "file:///a/b"),
    ("file:/a/b", "file:///a/b"),
    ("file:///a?b#c", "file:///a?b#c"),
    ("gs://bucket/a", "gs://bucket/a"),
    ("abfs://box@account.dfs.core.windows.net/a",
     "abfs://box@account.dfs.core.windows.net/a"),
    ("sftp://me@host/a", "sftp://me@host/a"),
])  # fmt: skip
def test_urls_are_brought_to_one_form(given, kept):
    """Which is the same when it is given again."""
    address = Address(given)
    assert address.url == kept
    assert Address(address.url) == address


@pytest.mark.parametrize("given", ["sub/remote", "./sub/remote", "file:sub/remote"])
def test_relative_paths_become_absolute(given, tmp_path, monkeypatch):
    """A stored address means the same from everywhere."""
    monkeypatch.chdir(tmp_path)
    assert Address(given).url == f"file://{tmp_path}/sub/remote"
    assert Address(given).directory == tmp_path / "sub/remote"


def test_a_home_directory_is_spelled_out(tmp_path):
    """As a shell would do it."""
    assert Address("~/remote").url == f"file://{tmp_path}/home/remote"


@pytest.mark.parametrize("url", [
    "", " ", "s3://", "s3:///key", "s3://a", "s3://bucket/../x", "s3://bucket//x",
    "s3://bucket/a\\b", "s3://bucket/a\0", "s3://bucket/a\nb", "s3:bucket/x",
    "file://host/path", "file://", "file:", "/", "file:///", "http://host/bucket",
    "https://host/bucket", "simplecache::s3://bucket/a", "memory://",
    "s3://bucket/a?versionId=3", "s3://bucket/a#b", "s3://bucket/.drafts",
])  # fmt: skip
def test_what_is_no_remote_is_refused(url):
    """With a hint."""
    with pytest.raises(InvalidInputError) as caught:
        Address(url)
    assert caught.value.hint


@pytest.mark.parametrize("url", [
    f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/a",
    f"s3://user:{SECRET}@bucket",
    f"s3://user:a/{SECRET}@bucket/a",
    f"s3://{SECRET}@bucket/a",
    f"sftp://me:{SECRET}@host/a",
    f"s3://bucket/a?X-Amz-Signature={SECRET}",
    f"s3://bucket/a?X-Amz-Credential={SECRET}&X-Amz-Date=1",
    f"s3://bucket?AWSAccessKeyId={SECRET}",
    f"s3://bucket?AWS_SECRET_ACCESS_KEY={SECRET}",
    f"s3://bucket?aws%5Fsecret%5Faccess%5Fkey={SECRET}",
    f"s3://bucket/a?secret={SECRET}",
    f"abfs://box@account/a?sv=2024&sig={SECRET}",
    f"az://box/a?token={SECRET}",
    f"gs://bucket/a?password={SECRET}",
    f"gs://bucket/a#access_token={SECRET}",
    "s3://bucket/AKIAIOSFODNN7EXAMPLE/a",
])  # fmt: skip
def test_urls_that_hold_a_secret_are_refused_and_not_repeated(url):
    """The fix says where credentials come from."""
    with pytest.raises(InvalidInputError) as caught:
        Address(url)
    text = str(caught.value) + repr(caught.value.identity)
    assert SECRET not in text
    assert "AKIAIOSFODNN7EXAMPLE" not in text
    assert "environment" in text


@pytest.mark.parametrize("endpoint", [
    "", "minio:9000", "ftp://host", "http://", "http://host:0", "http://[::1",
    f"http://user:{SECRET}@host:9000", f"http://host?token={SECRET}", "http://h/\n",
])  # fmt: skip
def test_endpoints_are_checked_as_well(endpoint):
    """They are stored beside the URL."""
    with pytest.raises(InvalidInputError) as caught:
        Address("s3://bucket", endpoint_url=endpoint)
    assert SECRET not in str(caught.value)


def test_options_of_s3_are_for_s3_alone():
    """A profile of a directory is a mistake."""
    for options in (
        {"endpoint_url": "http://h"},
        {"profile": "p"},
        {"path_style": True},
    ):
        assert Address("s3://bucket", **options)
        with pytest.raises(InvalidInputError, match="s3://"):
            Address("/a/b", **options)
    with pytest.raises(InvalidInputError):
        Address("s3://bucket", profile="")
    kept = Address("s3://bucket", endpoint_url="http://host:9000/")
    assert kept.endpoint_url == "http://host:9000"


def test_a_remote_and_a_store_are_beside_each_other(tmp_path):
    """Neither within the other, nor the same, also by a link."""
    store = tmp_path / "store"
    (store / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store)
    for inside in (store, store / "sub", store / "new/er", tmp_path / "link/sub"):
        with pytest.raises(InvalidInputError, match="within the Store"):
            refuse_nested(Address(str(inside)), store)
    with pytest.raises(InvalidInputError, match="holds the Store"):
        refuse_nested(Address(str(tmp_path)), store)
    with pytest.raises(InvalidInputError, match="holds the Store"):
        refuse_nested(Address(str(tmp_path)), tmp_path / "link")
    refuse_nested(Address(str(tmp_path / "store2")), store)
    refuse_nested(Address("s3://bucket"), store)


@pytest.mark.parametrize("pair", [
    ("minioadmin", "minioadmin"), ("admin", "password"), ("root", "root"),
    ("test", "test"), ("admin", "admin"),
], ids="-".join)  # fmt: skip
@pytest.mark.parametrize("endpoint", [None, "http://minio.lan:9000", "http://10.0.0.1"])
def test_default_credentials_are_refused_elsewhere(pair, endpoint, monkeypatch):
    """Before anything is sent there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", pair[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", pair[1])
    with pytest.raises(RemoteDeniedError, match="default credentials") as caught:
        open_remote(Address("s3://bucket", endpoint_url=endpoint))
    assert pair[1] not in str(caught.value).split()


@pytest.mark.parametrize("endpoint", [
    "http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000",
    "http://s3.localhost:9000", "http://127.9.9.9",
])  # fmt: skip
def test_default_credentials_are_warned_of_once_on_this_machine(endpoint, monkeypatch):
    """It is where people try things out."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "minioadmin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "minioadmin")
    with pytest.warns(WanllmdbWarning, match="default credentials"):
        open_remote(Address("s3://bucket", endpoint_url=endpoint))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_remote(Address("s3://bucket", endpoint_url=endpoint))


def test_the_endpoint_of_the_environment_counts(monkeypatch):
    """As botocore takes it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "password")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.warns(WanllmdbWarning):
        open_remote(Address("s3://bucket"))


def test_default_credentials_of_a_profile_are_found(tmp_path, monkeypatch):
    """In the file of credentials; the named profile goes before the environment."""
    (tmp_path / "aws-credentials").write_text(
        "[lab]\naws_access_key_id = minioadmin\naws_secret_access_key = minioadmin\n"
        "[good]\naws_access_key_id = mine\naws_secret_access_key = own\n"
    )
    named = Address("s3://bucket", profile="lab")
    with pytest.raises(RemoteDeniedError):
        open_remote(named)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with pytest.raises(RemoteDeniedError):
        open_remote(Address("s3://bucket"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    open_remote(Address("s3://bucket"))
    with pytest.raises(RemoteDeniedError):
        open_remote(named)
    open_remote(Address("s3://bucket", profile="good"))


def test_opening_connects_to_nothing(monkeypatch):
    """No socket before the first call: the suite refuses them here."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    remote = open_remote(Address("s3://bucket/a", endpoint_url="http://10.0.0.1:1"))
    assert remote.url == "s3://bucket/a"
    assert remote.tested


def test_a_missing_package_is_named_with_its_extra():
    """At the first call, by the pip command."""
    code = """
import sys
sys.modules["s3fs"] = None
from wanllmdb._remotes.address import Address, open_remote
from wanllmdb.errors import MissingExtraError
try:
    open_remote(Address("s3://bucket")).get("key")
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert "pip install 'wanllmdb[s3]'" in done.stdout


def test_other_schemes_are_tried_and_called_untested():
    """A scheme that fsspec does not know is refused."""
    assert not open_remote(Address("gs://bucket/a")).tested
    remote = open_remote(Address("nosuchscheme://bucket/a"))
    assert not remote.tested
    with pytest.raises(InvalidInputError, match="does not know"):
        remote.get("key")
