"""Laws of manifests: one form, checked paths, and bytes that are none are refused."""

from __future__ import annotations

import contextlib
import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanllmdb._manifest import Entry, Manifest, decode, entry_path
from wanllmdb.errors import IntegrityError, InvalidNameError

ANY = st.text(max_size=40) | st.text("./\\:aA\u00e9e\u0301\0", max_size=20)
NAMES = st.text("abAB.\u00e9e\u0301\U0001f600 ~-", min_size=1, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
SIZES = st.integers(0, 2**63 - 1)


def canonical(text):
    with contextlib.suppress(InvalidNameError):
        return entry_path(text)
    return None


@st.composite
def manifests(draw):
    """A manifest, and the entries that are in it."""
    manifest = Manifest()
    for path in draw(st.lists(PATHS, max_size=12)):
        digest, size = draw(DIGESTS), draw(SIZES)
        uri = draw(st.none() | st.sampled_from(["s3://b/k", "file:///x"]))
        if uri is not None and draw(st.booleans()):
            digest = size = None
        with contextlib.suppress(InvalidNameError):
            manifest.put(Entry(entry_path(path), digest, size, uri))
    return manifest


# Paths


@given(ANY)
def test_a_path_is_its_own_canonical_form(text):
    """Checked twice it is the same, and it leads nowhere else."""
    path = canonical(text)
    if path is None:
        return
    assert entry_path(path) == path == unicodedata.normalize("NFC", path)
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not path.startswith("/")
    assert not set(path) & set("\\\0\n\x7f\x85")
    assert all(len(part.encode()) <= 255 for part in parts)
    assert len(path.encode()) <= 1024


@given(ANY)
def test_equal_paths_of_two_forms_are_one(text):
    """However they are composed, and with whatever slashes."""
    path = canonical(text)
    for form in ("NFC", "NFD"):
        assert canonical(unicodedata.normalize(form, text)) == path
    if path is not None:
        assert canonical(f"./{text}/") == canonical(text.replace("/", "//")) == path


@pytest.mark.parametrize("path", [
    "../x", "a/..", "a/../b", "..", "/x", "//x", "C:", "c:/x", "C:\\x", "a\\b",
    "\\\\h\\s", "a\0", "\x1b[31m", "a\x7f", "a\x85b", "a\nb", "\ud800", "", ".",
    "./", "/", "n" * 256, "\U0001f600" * 64, "/".join(["n" * 200] * 6), b"x", b"",
])  # fmt: skip
def test_a_hostile_path_is_refused(path):
    """As one that is none."""
    with pytest.raises(InvalidNameError):
        entry_path(path)


@pytest.mark.parametrize(("path", "wanted"), [
    ("./a//b/", "a/b"), ("...", "..."), ("..a/b..", "..a/b.."), ("a:b", None),
    ("ab:c", "ab:c"), ("d/C:x", "d/C:x"), (" ", " "), ("~", "~"), ("-rf", "-rf"),
    ("e\u0301", "\u00e9"), ("n" * 255, "n" * 255), ("$HOME", "$HOME"), ("*", "*"),
])  # fmt: skip
def test_an_odd_path_is_data(path, wanted):
    """Unless it looks like a drive."""
    assert canonical(path) == wanted


# Entries


@given(manifests())
def test_what_is_encoded_is_decoded(manifest):
    """Entry for entry, and byte for byte."""
    data = manifest.encode()
    again = decode(data)
    assert list(again) == list(manifest)
    assert again.encode() == data
    assert (len(again), again.size) == (len(manifest), manifest.size)


@given(manifests(), st.randoms())
def test_the_order_of_adding_is_no_matter(manifest, dice):
    """The same content has the same bytes."""
    entries = list(manifest)
    dice.shuffle(entries)
    assert Manifest(entries).encode() == manifest.encode()
    assert [entry.path for entry in manifest] == sorted(e.path for e in entries)


@given(st.lists(st.tuples(PATHS, st.booleans()), max_size=20))
def test_a_path_is_a_file_or_a_directory(steps):
    """Whatever is put and dropped; a plain model says what is refused."""
    manifest, model = Manifest(), set()
    for text, added in steps:
        path = entry_path(text) if canonical(text) else "a"
        if not added:
            assert (manifest.drop(path) is not None) == (path in model)
            model.discard(path)
            continue
        above = {path[:at] for at, c in enumerate(path) if c == "/"} & model
        below = any(other.startswith(path + "/") for other in model)
        if above or below:
            with pytest.raises(InvalidNameError, match="director"):
                manifest.put(Entry(path, None, None, "s3://b/k"))
        else:
            manifest.put(Entry(path, None, None, "s3://b/k"))
            model.add(path)
    assert [entry.path for entry in manifest] == sorted(model)
    for path in {p.partition("/")[0] for p in model}:
        wanted = sorted(p for p in model if p.startswith(path + "/"))
        assert [entry.path for entry in manifest.below(path)] == wanted


# Damage


@given(manifests(), st.data())
@settings(max_examples=300)
def test_a_damaged_manifest_is_an_integrity_error_or_another_manifest(manifest, data):
    """Never another exception; what is read is valid."""
    damaged = bytearray(manifest.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "insert":
            damaged[at:at] = data.draw(
                st.sampled_from([b'"', b",", b"]", b"\xff", b"0"])
            )
        else:
            del damaged[max(at, 1) :]
    with contextlib.suppress(IntegrityError):
        again = decode(bytes(damaged))
        assert all(entry_path(entry.path) == entry.path for entry in again)
        assert again.encode() == damaged


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["a", "sha256:" + "0" * 64]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON, JSON)
@settings(max_examples=300)
def test_no_other_json_is_a_manifest(entries, other):
    """Whatever stands in the places of entries."""
    for found in (other, {"format": 1, "entries": entries}, {"format": other},
                  {"format": 1, "entries": [entries]}):  # fmt: skip
        with contextlib.suppress(IntegrityError):
            for entry in decode(json.dumps(found).encode()):
                assert entry.uri is not None or (
                    entry.digest and entry.size is not None
                )


ZERO = "sha256:" + "0" * 64


@pytest.mark.parametrize("entry", [
    ["../x", ZERO, 1], ["/x", ZERO, 1], ["a//b", ZERO, 1], ["e\u0301", ZERO, 1],
    ["a\\b", ZERO, 1], ["a\0", ZERO, 1], ["", ZERO, 1], [None, ZERO, 1], [5, ZERO, 1],
    ["a", "md5:00", 1], ["a", "../../etc/passwd", 1], ["a", ZERO[:-1], 1],
    ["a", ZERO + "0", 1], ["a", ZERO.upper(), 1], ["a", ZERO + "\n", 1], ["a", None, 1],
    ["a", 5, 1], ["a", ZERO, -1], ["a", ZERO, None], ["a", ZERO, True],
    ["a", ZERO, 1.0], ["a", ZERO, "1"], ["a", ZERO], ["a"], [],
    ["a", ZERO, 1, "s3://x", 1], ["a", ZERO, 1, 5], ["a", ZERO, -1, "s3://x"],
    "abc", None, 5,
])  # fmt: skip
def test_a_hostile_entry_is_refused(entry):
    """Each rule of paths, digests, sizes and references."""
    data = json.dumps({"format": 1, "entries": [entry]}).encode()
    with pytest.raises(IntegrityError, match="no manifest"):
        decode(data)


@pytest.mark.parametrize("entries", [
    [["a", ZERO, 1], ["a", ZERO, 1]], [["a", ZERO, 1], ["a/b", ZERO, 1]],
    [["a/b", ZERO, 1], ["a", ZERO, 1]],
])  # fmt: skip
def test_entries_that_contradict_each_other_are_refused(entries):
    """A path twice, or as a file and a directory."""
    with pytest.raises(IntegrityError):
        decode(json.dumps({"format": 1, "entries": entries}).encode())


WHOLE = f'{{"format":1,"entries":[["a","{ZERO}",1],["b/c",null,null,"s3://b/k"]]}}\n'


@pytest.mark.parametrize(("told", "otherwise"), [
    (",", ", "), (":1,", ": 1,"), ("\n", ""), ("\n", "\n\n"), ('"a"', '"\\u0061"'),
    ('"format":1', '"format":true'), ('"format":1', '"format":1.0'),
    ('"format":1,', '"format":1,"more":2,'), ('"format":1,', '"format":9,"format":1,'),
    ('"s3://b/k"', '"s3://b/k",null'), ('"s3:', '"s3\\u003a'), ("s3://", "s3:\\/\\/"),
    (f'["a","{ZERO}",1],["b/c",null,null,"s3://b/k"]',
     f'["b/c",null,null,"s3://b/k"],["a","{ZERO}",1]'),
    (f'["a","{ZERO}",1]', f'["a","{ZERO}",1,null]'),
])  # fmt: skip
def test_a_manifest_in_other_bytes_is_refused(told, otherwise):
    """Content has one digest: whoever says it otherwise would give it a second one."""
    assert decode(WHOLE.encode()).encode() == WHOLE.encode()
    other = WHOLE.replace(told, otherwise)
    assert other != WHOLE
    with pytest.raises(IntegrityError, match="no manifest"):
        decode(other.encode())


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b"5", b'""', b"\xff\xfe", b'{"format":1}',
    b"[" * 100_000, b'{"format":2,"entries":[]}', b'{"format":1,"entries":{}}',
    b'{"entries":[]}', b'{"format":1,"entries":5}', b'{"format":"1","entries":[]}',
    b"9" * 10_000,
    b'{"format":1,"entries":"ab"}', b'{"format":1,"entries":null}',
])  # fmt: skip
def test_bytes_that_are_no_manifest_are_an_integrity_error(data):
    """Whatever they are."""
    with pytest.raises(IntegrityError):
        decode(data)
