"""References: which URIs are taken, what is known of them, and when they are read."""

from __future__ import annotations

import hashlib
import os
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wanllmdb
from wanllmdb import _addresses, _manifest, _opener, _references
from wanllmdb._manifest import Entry, Manifest
from wanllmdb.errors import (
    ArtifactStateError,
    DigestMismatchError,
    IntegrityError,
    InvalidInputError,
    RemoteUnreachableError,
)

TABLE = Path(__file__).with_name("hostile_uris.txt").read_text("utf-8").splitlines()
HOSTILE = [line for line in TABLE if not line.startswith("#")]
SHA = "a" * 64
MD5 = "b" * 32


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def draft():
    """A draft, to which references are added."""
    return wanllmdb.Artifact("data", "dataset")


@pytest.fixture
def committed():
    """Commit a draft; its first version."""

    def commit(artifact):
        with wanllmdb.init(project="p") as run:
            return run.log_artifact(artifact)

    return commit


@pytest.fixture
def no_network(monkeypatch):
    """Whatever asks the network fails the test."""

    def refuse(*args):
        pytest.fail(f"the network was asked: {args}")

    monkeypatch.setattr(_opener, "NETWORK", _opener.Network(refuse, refuse))


# Which URIs


def test_the_table_has_35_uris():
    """As many as the note counts, each once."""
    assert len(set(HOSTILE)) == 35


@pytest.mark.parametrize("line", HOSTILE)
def test_hostile_uris_are_refused_when_they_are_added(draft, line):
    """All whose spelling says where they lead; names are the opener's to judge."""
    uri, _, behind = line.partition(" @ ")
    if behind:
        assert draft.add_reference(uri)[0].ref == uri
        return
    with pytest.raises(InvalidInputError) as caught:
        draft.add_reference(uri)
    assert caught.value.message.startswith(f"{_references.shown(uri)} ")
    assert caught.value.hint
    assert draft.file_count == 0


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "empty"),
        ("/data/x.csv", "is no reference"),
        ("file:/data/x.csv", "is no reference"),
        ("S3://bucket/x", "is no reference"),
        ("http://example.com/x", "is no reference"),
        ("ftp://example.com/x", "is no reference"),
        ("gopher://example.com/x", "is no reference"),
        ("data:text/plain,x", "is no reference"),
        ("simplecache::s3://bucket/x", "is no reference"),
        ("simplecache::file:///etc/shadow", "is no reference"),
        ("s3:///x", "no bucket"),
        ("s3://-b/x", "no bucket"),
        ("s3://169.254.169.254/x", "no bucket"),
        ("gs://bucket:80/x", "no bucket"),
        ("az://", "no bucket"),
        ("az://container@account/x", "user or a password"),
        ("https:///x", "no host"),
        ("https://a..example.com/x", "no name"),
        ("https://example.com./x", "no name"),
        ("https://exa mple.com/x", "white space"),
        ("https://ⓔxample.com/x", "not ASCII"),
        ("https://example。com/x", "not ASCII"),
        ("https://example.com:0/x", "port"),
        ("https://example.com:65536/x", "port"),
        ("https://example.com:/x", "port"),
        ("https://example.com:8o/x", "port"),
        ("https://[::1/x", "brackets"),
        ("https://[127.0.0.1]/x", "brackets"),
        ("https://[2606:4700::1]x443/x", "brackets"),
        (f"https://{'a.' * 127}example/x", "no name"),
        (f"https://{'a' * 64}.example/x", "no name"),
        (f"s3://b/{'x' * 4090}", "longer than 4096 bytes"),
        (f"s3://b/{'é' * 2045}", "longer than 4096 bytes"),
        ("https://[2606:4700::1%25eth0]/x", "this machine or its network"),
        ("https://[2606:4700::1%eth0]/x", "this machine or its network"),
        ("https://[v1.a:b]/x", "unusual spelling"),
        ("https://[2001:db8::1]/x", "not public"),
        ("https://1.2.3.4.5/x", "unusual spelling"),
        ("https://0x7f.1/x", "unusual spelling"),
        ("https://example.0x1f/x", "unusual spelling"),
        ("https://intranet/x", "this machine or its network"),
        ("https://metadata.goog/x", "this machine or its network"),
        ("https://nas.home.arpa/x", "this machine or its network"),
        ("https://example.com/x#part", "fragment"),
        ("file://server/share/x", "names a host"),
        ("file://localhost/x", "names a host"),
        ("file://", "names no file"),
        ("file:///", "names no file"),
        ("file:///a?b", "names no file"),
        ("file:///a#b", "names no file"),
    ],
)
def test_what_is_no_reference_says_why(uri, reason):
    """Other schemes, no bucket, no host, a port that is none, a host nearby."""
    with pytest.raises(InvalidInputError, match=reason):
        _references.parse(uri)


@pytest.mark.parametrize("scheme", ["s3://b", "https://example.com", "file://"])
@pytest.mark.parametrize(
    "path",
    [
        "/../x", "/a/..", "/%2e%2e/x", "/.%2E/x", "/%252e%252e/x", "/a%2f..%2fx",
        "/a%252f..%252fx", "/..;a/x", "/．．/x", "/‥/x", "/..／x", "/%EF%BC%8E./x",
    ],
)  # fmt: skip
def test_dots_that_lead_outside_are_found_in_any_spelling(scheme, path):
    """Plain, encoded any number of times, with parameters, and in full width."""
    with pytest.raises(InvalidInputError, match="leads outside"):
        _references.parse(scheme + path)


@settings(deadline=None)
@given(st.integers(1, 1000), st.sampled_from(_references.SCHEMES))
def test_the_depth_of_encoding_does_not_matter(depth, scheme):
    """However often the dots are encoded, they are found, or it is too often."""
    dots = "%" + "25" * (depth - 1) + "2e"
    host = "" if scheme == "file" else "example.com"
    reason = "leads outside" if depth < _references.DEPTH else "too many times over"
    with pytest.raises(InvalidInputError, match=reason):
        _references.parse(f"{scheme}://{host}/a/{dots}{dots}/b")


@pytest.mark.parametrize(
    "one",
    ["\0", "\t", "\n", "\r", "\x7f", "\x85", " ", "\u00a0", "\u200b", "\u2028",
     "\u202e", "\ufeff", "\ud800", "\\"],
)  # fmt: skip
def test_what_cannot_be_seen_is_refused(one):
    """Anywhere in a URI; the message shows it escaped."""
    for uri in (f"{one}s3://b/x", f"s3://b{one}/x", f"s3://b/x{one}", f"s3:/{one}/b/x"):
        with pytest.raises(InvalidInputError, match="white space") as caught:
            _references.parse(uri)
        assert one == "\\" or one == " " or one not in caught.value.message


@pytest.mark.parametrize(
    "code", ["%00", "%0d%0aHost:x", "%250a", "%5c", "%255C", "%7f"]
)
def test_what_cannot_be_seen_is_refused_encoded_too(code):
    """No control character and no backslash is hidden in percent signs."""
    with pytest.raises(InvalidInputError, match="percent-encoded"):
        _references.parse(f"https://example.com/a{code}/b")


@pytest.mark.parametrize("code", ["%c0%ae%c0%ae", "%ff", "%c0%af", "%ed%a0%80"])
def test_overlong_and_broken_utf_8_is_refused(code):
    """Which some servers take for dots and slashes."""
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        _references.parse(f"https://example.com/{code}/b")


@pytest.mark.parametrize(
    "uri",
    [
        "https://reader:hunter2@example.com/x", "s3://AKIA1:hunter2@bucket/x",
        "https://hunter2@example.com/x", "https://reader:hun/hunter2@example.com/x",
        "ftp://reader:hunter2@example.com/x", "reader:hunter2@example.com",
        "https://example.com/x?token=hunter2", "http://example.com/x?a=hunter2",
        "https://example.com/x#access_token=hunter2", "s3://b/x y?sig=hunter2",
    ],
)  # fmt: skip
def test_no_error_shows_a_credential(draft, uri):
    """Neither its text nor what it carries for programs."""
    with pytest.raises(InvalidInputError) as caught:
        draft.add_reference(uri)
    assert "hunter2" not in f"{caught.value} {caught.value.identity}"


@pytest.mark.parametrize(
    "name",
    ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId",
     "Signature", "X-Goog-Signature", "sig", "token", "access_token", "api_key",
     "apikey", "password", "client_secret", "auth", "session",
     "X%2DAmz%2DSignature", "SIG"],
)  # fmt: skip
@pytest.mark.parametrize("before", ["?", "?a=1&", "?a;", "#", "?a=1#"])
def test_credentials_are_not_kept(name, before):
    """A presigned URI would give everybody access who reads the artifact."""
    with pytest.raises(InvalidInputError, match="holds a"):
        _references.for_storage(f"https://example.com/x{before}{name}=v")
    with pytest.raises(InvalidInputError, match="holds a credential"):
        _references.for_storage(f"s3://b/x{before}{name}=v")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/a/b.csv", "b.csv"),
        ("s3://bucket/a/b/", "b"),
        ("s3://bucket", "bucket"),
        ("s3://my.bucket-1/a%20b@c:d.csv", "a%20b@c:d.csv"),
        ("s3://bucket/x?versionId=3sL4kqtJlcpXroDTDmJ", "x"),
        ("gs://bucket_1/données/x.csv", "x.csv"),
        ("az://container/x", "x"),
        ("https://example.com/a/b.csv?rev=1&design=2&author=3&tokens=4", "b.csv"),
        ("https://example.com:8443/a%20b.csv", "a b.csv"),
        ("https://example.com", "example.com"),
        ("https://8.8.8.8/x", "x"),
        ("https://[2606:4700:4700::1111]/x", "x"),
        ("https://xn--bcher-kva.example/x", "x"),
        ("https://1and1.example/..a/x..y/...", "..."),
        ("file:///data/a%20b%25.csv", "a b%.csv"),
        ("file:///data/é.csv", "é.csv"),
    ],
)
def test_plain_uris_are_taken_as_they_are(uri, name):
    """And called by the last part of their path."""
    assert _references.for_storage(uri).name == name


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", *_references.SCHEMES]))
def test_any_text_is_a_reference_or_refused(text, scheme):
    """No text makes the rules themselves fail."""
    try:
        found = _references.for_storage(f"{scheme}://{text}" if scheme else text)
    except InvalidInputError:
        return
    assert found.scheme in _references.SCHEMES
    assert found.uri.isprintable()


# Which addresses


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.1.2.3", "100.64.0.1", "100.127.255.255", "168.63.129.16",
        "169.254.169.254", "172.16.0.1", "192.0.0.192", "192.0.2.1", "192.168.0.1",
        "198.19.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "0.0.0.0", "0.1.2.3", "::", "::1", "::7f00:1", "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:a9fe:a9fe::",
        "2001:2::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "", "x",
        "2130706433", "127.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(text):
    """Each special range, and what is no address in its plain spelling."""
    assert not _addresses.is_public(text)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_wraps_an_ipv4_address_is_as_public_as_it(address):
    """Mapped, NAT64, 6to4 and Teredo lead where the address in them leads."""
    bits, public = int(address), _addresses.is_public(str(address))
    server = int(IPv4Address("8.8.8.8"))
    wraps = [
        (0xFFFF << 32) + bits,
        (0x64FF9B << 96) + bits,
        (0x2002 << 112) + (bits << 80) + 1,
        (0x20010000 << 96) + (server << 64) + (~bits & 0xFFFFFFFF),
        (0x20010000 << 96) + (bits << 64) + (~server & 0xFFFFFFFF),
    ]
    for wrapped in map(IPv6Address, wraps):
        assert _addresses.is_public(str(wrapped)) == public
    assert not public or address.is_global


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_no_public_address_is_private_to_python(address):
    """Our list is never wider than the standard library's."""
    plain = _addresses.is_public(str(address)) and address.sixtofour is None
    assert not plain or address.is_global


# Adding


def test_a_remote_reference_is_an_inert_string(draft, no_network):
    """checksum=True asks no network; what is known is what was said."""
    (bare,) = draft.add_reference("s3://no-such-bucket/a/x.csv")
    (told,) = draft.add_reference(
        "https://example.com/y.bin", name="in/y", size=7, sha256_hash=SHA.upper(),
        md5_hash=MD5.upper(),
    )  # fmt: skip
    assert (bare.path, bare.digest, bare.size, bare.md5) == ("x.csv", None, None, None)
    assert (told.path, told.digest, told.size) == ("in/y", f"sha256:{SHA}", 7)
    assert told.md5 == MD5
    assert told.ref_target() == "https://example.com/y.bin"
    assert draft.size == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": -1}, {"size": 1.0}, {"size": True}, {"size": "7"},
        {"sha256_hash": "a" * 63}, {"sha256_hash": "g" * 64}, {"sha256_hash": MD5},
        {"sha256_hash": 7}, {"sha256_hash": SHA + "\n"}, {"md5_hash": SHA},
        {"md5_hash": "x" * 32}, {"md5_hash": b"b" * 32}, {"md5_hash": ""},
    ],
)  # fmt: skip
def test_a_size_or_hash_that_is_none_is_refused(draft, wrong):
    """The message names the argument's value."""
    with pytest.raises(InvalidInputError, match="is none"):
        draft.add_reference("s3://b/x", **wrong)
    assert draft.file_count == 0


def test_a_digest_is_taken_in_its_own_form(draft):
    """What an entry's `digest` gives can be said of a reference."""
    (entry,) = draft.add_reference("s3://b/x", sha256_hash=f"sha256:{SHA}")
    assert entry.digest == f"sha256:{SHA}"


def test_a_file_is_hashed_where_it_lies(draft, tmp_path):
    """Its digest and size are known, its bytes are not taken."""
    path = tmp_path / "a b%é.bin"
    path.write_bytes(b"bytes")
    (entry,) = draft.add_reference(path.as_uri())
    assert (entry.path, entry.digest, entry.size) == (path.name, sha256(b"bytes"), 5)
    assert entry.ref == path.as_uri()


def test_a_file_without_checksum_is_not_looked_at(draft):
    """It need not even be there."""
    (entry,) = draft.add_reference("file:///no/such/file", checksum=False)
    assert (entry.digest, entry.size) == (None, None)


@pytest.mark.parametrize("kind", ["missing", "pipe", "device"])
def test_a_file_that_cannot_be_hashed_is_refused(draft, tmp_path, kind):
    """Missing, or no regular file; nobody waits for the other end of a pipe."""
    path = Path("/dev/zero") if kind == "device" else tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InvalidInputError, match=r"cannot be read|no regular file"):
        draft.add_reference(path.as_uri())


@pytest.mark.parametrize("said", [{"size": 4}, {"sha256_hash": SHA}, {"md5_hash": MD5}])
def test_a_file_must_be_what_is_said_of_it(draft, tmp_path, said):
    """Whatever is said is compared, and what is right is kept."""
    path = tmp_path / "x"
    path.write_bytes(b"bytes")
    with pytest.raises(DigestMismatchError):
        draft.add_reference(path.as_uri(), **said)
    right = {
        "size": 5, "sha256_hash": hashlib.sha256(b"bytes").hexdigest(),
        "md5_hash": hashlib.md5(b"bytes").hexdigest(),
    }  # fmt: skip
    (entry,) = draft.add_reference(path.as_uri(), **right)
    assert (entry.digest, entry.md5) == (sha256(b"bytes"), right["md5_hash"])


@pytest.fixture
def tree(tmp_path):
    """A directory of three files, one of them behind a link."""
    root = tmp_path / "tree #1"
    (root / "sub").mkdir(parents=True)
    (root / "a.csv").write_bytes(b"a")
    (root / "sub" / "b?.csv").write_bytes(b"bb")
    (root / "c.csv").symlink_to(root / "a.csv")
    return root


def test_a_directory_becomes_an_entry_for_each_file(draft, tree):
    """At the root, or below a name; each with its own URI and digest."""
    found = draft.add_reference(tree.as_uri())
    assert [entry.path for entry in found] == ["a.csv", "c.csv", "sub/b?.csv"]
    assert found[2].ref == f"{tree.as_uri()}/sub/b%3F.csv"
    assert found[2].digest == sha256(b"bb")
    below = draft.add_reference(tree.as_uri() + "/", name="in")
    assert [entry.path for entry in below][2] == "in/sub/b?.csv"
    assert draft.file_count == 6


def test_a_directory_without_checksum_is_one_entry(draft, tree):
    """It is only said where it is."""
    (entry,) = draft.add_reference(tree.as_uri(), checksum=False)
    assert (entry.path, entry.digest) == ("tree #1", None)


def test_a_directory_holds_no_more_files_than_asked_for(draft, tree, monkeypatch):
    """Ten thousand unless said; then nothing is added."""
    assert _references.MAX_OBJECTS == 10_000
    with pytest.raises(InvalidInputError, match="more than 2 files"):
        draft.add_reference(tree.as_uri(), max_objects=2)
    monkeypatch.setattr(_references, "MAX_OBJECTS", 2)
    with pytest.raises(InvalidInputError, match="more than 2 files"):
        draft.add_reference(tree.as_uri())
    assert draft.file_count == 0
    assert len(draft.add_reference(tree.as_uri(), max_objects=3)) == 3


def test_a_directory_has_no_hash_and_no_pipes(draft, tree):
    """What is said must be of a file; offenders are named before any is read."""
    with pytest.raises(InvalidInputError, match="is a directory"):
        draft.add_reference(tree.as_uri(), size=3)
    os.mkfifo(tree / "pipe")
    with pytest.raises(InvalidInputError, match="pipe"):
        draft.add_reference(tree.as_uri())
    assert draft.file_count == 0


def test_a_taken_path_is_refused_and_the_same_again_is_not(draft):
    """As for files: other content of the same path is an error."""
    draft.add_reference("s3://b/x", size=1)
    draft.add_reference("s3://b/x", size=1)
    with pytest.raises(InvalidInputError, match="with other content"):
        draft.add_reference("s3://b/x", size=2)
    with pytest.raises(InvalidInputError, match="directory"):
        draft.add_reference("s3://b/y", name="x/y")
    with pytest.raises(InvalidInputError, match=r"\.\."):
        draft.add_reference("s3://b/y", name="../y")
    assert draft.file_count == 1


def test_a_version_takes_no_reference(draft, committed):
    """It never changes."""
    draft.add_reference("s3://b/x")
    with pytest.raises(ArtifactStateError):
        committed(draft).add_reference("s3://b/y")


def test_what_was_said_survives_the_commit(draft, committed):
    """A version that is read again has it all."""
    draft.add_reference("s3://b/x", size=7, sha256_hash=SHA, md5_hash=MD5)
    draft.add_reference("s3://b/y", md5_hash=MD5)
    committed(draft)
    again = wanllmdb.Api().artifact("p/data:v1")
    x, y = again.files()
    assert (x.ref, x.digest, x.size, x.md5) == ("s3://b/x", f"sha256:{SHA}", 7, MD5)
    assert (y.digest, y.size, y.md5) == (None, None, MD5)
    assert again.size == 7
    assert committed(again.new_draft()).version == "v1"


def test_a_run_logs_a_reference_by_its_uri():
    """What has :// in it is no path."""
    with wanllmdb.init(project="p", id="r") as run:
        made = run.log_artifact("s3://bucket/a/x y.csv".replace(" ", "%20"))
        named = run.log_artifact("gs://bucket", name="all", type="bucket")
        with pytest.raises(InvalidInputError, match="user or a password"):
            run.log_artifact("https://a:b@example.com/x")
    assert made.name == "run-r-x-20y.csv:v1"
    assert made.files()[0].ref == "s3://bucket/a/x%20y.csv"
    assert (named.name, named.files()[0].path) == ("all:v1", "bucket")


# Manifests


def test_manifests_without_md5_keep_their_bytes():
    """The fifth field is there only where it says something."""
    entries = [
        Entry("a", f"sha256:{SHA}", 1),
        Entry("b", None, None, "s3://b/x"),
        Entry("c", None, 2, "s3://b/y", MD5),
    ]
    data = Manifest(entries).encode()
    assert data.decode() == (
        '{"format":1,"entries":['
        f'["a","sha256:{SHA}",1],'
        '["b",null,null,"s3://b/x"],'
        f'["c",null,2,"s3://b/y","{MD5}"]'
        "]}\n"
    )
    assert list(_manifest.decode(data)) == entries


@pytest.mark.parametrize(
    "fields",
    [
        f'["c",null,2,"s3://b/y","{MD5.upper()}"]', '["c",null,2,"s3://b/y",7]',
        f'["c","sha256:{SHA}",2,null,"{MD5}"]', f'["c",null,2,"s3://b/y","{MD5}",1]',
    ],
)  # fmt: skip
def test_manifests_with_a_wrong_md5_are_refused(fields):
    """As with every other field."""
    with pytest.raises(IntegrityError, match="no manifest"):
        _manifest.decode(f'{{"format":1,"entries":[{fields}]}}'.encode())


# Reading


@pytest.fixture
def version(tmp_path, draft, committed):
    """A version of a stored file, and of a reference to one."""
    (tmp_path / "far.bin").write_bytes(b"far away")
    (tmp_path / "near.bin").write_bytes(b"near")
    draft.add_file(tmp_path / "near.bin")
    draft.add_reference((tmp_path / "far.bin").as_uri(), name="in/far.bin")
    return committed(draft)


def test_references_are_left_out_unless_asked_for(version, tmp_path):
    """download() writes what is stored."""
    place = Path(version.download(tmp_path / "out"))
    assert sorted(path.name for path in place.iterdir()) == ["near.bin"]
    assert version.verify()
    assert version.verify(place)


def test_references_are_fetched_where_asked_for(version, tmp_path):
    """Complete and right, by the same paths; what is right already is not read."""
    place = Path(version.download(tmp_path / "out", references=True))
    assert (place / "in" / "far.bin").read_bytes() == b"far away"
    assert version.verify(place, references=True)
    (tmp_path / "far.bin").unlink()
    assert version.download(place, references=True) == str(place)


def test_one_reference_is_fetched_by_its_entry(version, tmp_path):
    """Never by accident: without being asked to, it says how."""
    entry = version.get_entry("in/far.bin")
    with pytest.raises(InvalidInputError, match="references=True"):
        entry.download(tmp_path / "out")
    path = Path(entry.download(tmp_path / "out", references=True))
    assert path.read_bytes() == b"far away"
    assert not (tmp_path / "out" / "near.bin").exists()


@pytest.mark.parametrize("now", [b"far awry", b"far away, and more", b"far"])
def test_a_reference_that_changed_is_not_written(version, tmp_path, now):
    """Same size or not: the digest is compared, and nothing is left behind."""
    (tmp_path / "far.bin").write_bytes(now)
    with pytest.raises(DigestMismatchError):
        version.download(tmp_path / "out", references=True)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) in (
        [], ["near.bin"],
    )  # fmt: skip
    with pytest.raises(IntegrityError, match=r"'in/far\.bin' have changed"):
        version.verify(references=True)
    assert version.verify()


def test_a_reference_that_is_gone_is_said_to_be(version, tmp_path):
    """By download and by verify."""
    (tmp_path / "far.bin").unlink()
    with pytest.raises(RemoteUnreachableError):
        version.download(tmp_path / "out", references=True)
    with pytest.raises(IntegrityError, match=r"'in/far\.bin' is missing"):
        version.verify(references=True)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ({}, True), ({"size": 5}, True), ({"size": 6}, False), ({"size": 4}, False),
        ({"md5_hash": hashlib.md5(b"bytes").hexdigest()}, True),
        ({"md5_hash": MD5}, False), ({"sha256_hash": SHA}, False),
    ],
)  # fmt: skip
def test_each_thing_that_is_known_is_compared(draft, committed, tmp_path, said, right):
    """A size alone, or an MD5 alone, is enough to refuse other bytes."""
    (tmp_path / "x").write_bytes(b"bytes")
    draft.add_reference((tmp_path / "x").as_uri(), checksum=False, **said)
    made = committed(draft)
    if right:
        place = Path(made.download(tmp_path / "out", references=True))
        assert (place / "x").read_bytes() == b"bytes"
        assert made.verify(references=True)
    else:
        with pytest.raises(DigestMismatchError):
            made.download(tmp_path / "out", references=True)
        with pytest.raises(IntegrityError):
            made.verify(references=True)


def test_what_is_right_already_is_not_fetched_again(draft, committed, tmp_path):
    """A digest is enough to know, a size alone is not."""
    (tmp_path / "x").write_bytes(b"bytes")
    uri, sha = (tmp_path / "x").as_uri(), hashlib.sha256(b"bytes").hexdigest()
    draft.add_reference(uri, checksum=False, sha256_hash=sha)
    draft.add_reference(uri, name="y", checksum=False, size=5)
    made = committed(draft)
    made.download(tmp_path / "out", references=True)
    (tmp_path / "x").unlink()
    made.get_entry("x").download(tmp_path / "out", references=True)
    with pytest.raises(RemoteUnreachableError):
        made.get_entry("y").download(tmp_path / "out", references=True)


def test_what_was_fetched_is_verified_by_all_that_is_known(draft, committed, tmp_path):
    """Below a directory it is the file there that is read."""
    (tmp_path / "x").write_bytes(b"bytes")
    md5 = hashlib.md5(b"bytes").hexdigest()
    uri = (tmp_path / "x").as_uri()
    draft.add_reference(uri, checksum=False, md5_hash=md5)
    made = committed(draft)
    place = Path(made.download(tmp_path / "out", references=True))
    (tmp_path / "x").unlink()
    assert made.verify(place, references=True)
    (place / "x").write_bytes(b"other")
    with pytest.raises(IntegrityError, match="have changed"):
        made.verify(place, references=True)
    (place / "x").unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        made.verify(place, references=True)


def test_no_link_in_the_target_is_followed_by_a_reference(version, tmp_path):
    """Neither for a directory of its path, nor for the file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "in").symlink_to(outside)
    with pytest.raises(InvalidInputError, match="cannot be written"):
        version.download(tmp_path / "out", references=True)
    assert not list(outside.iterdir())
    (tmp_path / "out" / "in").unlink()
    (tmp_path / "out" / "in").mkdir()
    (outside / "x").write_bytes(b"mine")
    (tmp_path / "out" / "in" / "far.bin").symlink_to(outside / "x")
    version.download(tmp_path / "out", references=True)
    assert (outside / "x").read_bytes() == b"mine"


def test_a_manifest_of_others_leads_nowhere_either(
    draft, committed, tmp_path, monkeypatch
):
    """What was never added by our rules is judged by them when it is opened."""
    connected = []
    network = _opener.Network(
        lambda host, port: ["169.254.169.254"], lambda *where: connected.append(where)
    )
    monkeypatch.setattr(_opener, "NETWORK", network)
    new = [Entry(str(n), None, None, line.split()[0]) for n, line in enumerate(HOSTILE)]
    draft._put_entries(new, overwrite=False)
    made = committed(draft)
    for entry in made.files():
        with pytest.raises(InvalidInputError):
            entry.download(tmp_path / "out", references=True)
    with pytest.raises(IntegrityError) as caught:
        made.verify(references=True)
    assert caught.value.identity["problems"] == 35
    assert connected == []
    assert not list((tmp_path / "out").iterdir())


def test_paths_of_files_are_encoded_and_decoded(draft, tmp_path):
    """A name that looks encoded is another file than its decoded form."""
    for name, data in (("a%20b", b"1"), ("a b", b"2")):
        (tmp_path / name).write_bytes(data)
    (one,) = draft.add_reference((tmp_path / "a%20b").as_uri())
    (two,) = draft.add_reference(f"file://{quote(str(tmp_path))}/a%20b")
    assert (one.path, one.digest) == ("a%20b", sha256(b"1"))
    assert (two.path, two.digest) == ("a b", sha256(b"2"))
