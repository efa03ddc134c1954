"""Names: which are accepted, how they are normalised, and how runs get theirs."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from wanllmdb.errors import InvalidNameError
from wanllmdb.types import CHILD_WRITERS

MAX_NAME_BYTES = 255
MAX_WRITER = 16
"""Room for a writer's name in the header of its segments, bytes."""
_RUN_ID_FORBIDDEN = ":;,#?/"
_PROJECT_FORBIDDEN = "/\\#?%:"

_ADJECTIVES = """
able amber ample azure bold brave breezy bright brisk calm candid cheery clear
clever cosmic cozy crisp curious dapper daring deep deft devoted eager earnest
early easy electric elegant fabled fair fancy fearless fine firm fleet fond frank
fresh gentle giddy glad gleaming golden good grand green happy hardy hearty
helpful honest humble icy ideal jolly jovial keen kind lively logical lucid lucky
lunar magic mellow merry mighty mild misty modest neat nimble noble patient peachy
placid playful pleasant polished prime proud quick quiet rapid rare ready regal
robust rosy royal rustic sage serene sharp shiny silent silver sincere smooth
snowy solar solid spirited splendid spry stable steady stellar still sturdy subtle
sunny super sure swift tender tidy tranquil true upbeat valiant vast vivid warm
whole willing wise witty worthy young zesty
""".split()  # noqa: SIM905 - words read better than quotes
_NOUNS = """
acorn anchor apple aurora badger bay beacon bear birch bird bloom breeze bridge
brook butterfly canyon cedar cherry cloud clover comet coral cove crane creek crow
dawn deer delta dew dove dream dune eagle elm ember falcon feather fern field
finch fire fjord flame forest fox frost galaxy garden glacier glade grove gull
harbor hare hawk haze heron hill horizon island ivy jade jay lagoon lake lantern
lark leaf lily lion lotus lynx maple marsh meadow mist moon moss mountain night
oak oasis ocean orchid otter owl panda path peak pebble pine planet plum pond
prairie puffin rain raven reef ridge river robin rose sea shadow shell sky snow
sparrow spring spruce star stone stream summit sun surf swan thunder tide tiger
trail tree tulip valley violet wave whale willow wind wolf wood wren zebra
""".split()  # noqa: SIM905 - words read better than quotes


def text(value: str, what: str) -> str:
    """Text as it is stored: NFC, without NUL and without lone surrogates.

    Raises:
        InvalidNameError: it holds one of these; the message names `what`.
    """
    normal = value if value.isascii() else unicodedata.normalize("NFC", value)
    if "\0" in normal:
        raise InvalidNameError(
            f"The {what} {value[:40]!r} holds a NUL character.", hint="Remove it."
        )
    try:
        normal.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidNameError(
            f"The {what} {value[:40]!r} holds half a character (a lone surrogate).",
            hint="Decode it with the right encoding first.",
        ) from None
    return normal


def lookup(value: str) -> str:
    """A name to look for: NFC, and without what no stored name can hold."""
    normal = unicodedata.normalize("NFC", value)
    return normal.encode("utf-8", "replace").decode()


def run_id(value: object) -> str:
    """A user's run id.

    Raises:
        InvalidNameError: empty, over 255 bytes, or with one of ``:;,#?/``.
    """
    return _checked(value, "run id", _RUN_ID_FORBIDDEN)


def project(value: object) -> str:
    r"""A project's name.

    Raises:
        InvalidNameError: empty, over 255 bytes, or with one of ``/\#?%:``.
    """
    return _checked(value, "project name", _PROJECT_FORBIDDEN)


def tags(value: object) -> tuple[str, ...]:
    """Tags in the order given, each once; one string is one tag.

    Raises:
        InvalidNameError: a tag is empty, too long, or no text.
    """
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    return tuple(dict.fromkeys(_checked(str(item), "tag", "") for item in items))


def writer(label: str) -> str:
    """A writer's name of at most 16 ASCII characters from a user's label.

    A label that is longer, or not plain, is cut and told apart by its hash.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", label)
    if plain != label or len(label) > MAX_WRITER or label.startswith(CHILD_WRITERS):
        digest = hashlib.sha256(label.encode("utf-8", "replace")).hexdigest()
        return f"{plain[:9]}~{digest[:6]}"
    return label


def random_run_name(number: int) -> str:
    """Two words and the run's number in its project, such as ``brave-owl-12``."""
    import random

    return f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}-{number}"


def _checked(value: object, what: str, forbidden: str) -> str:
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InvalidNameError(f"A {what} is text, not {kind}.", hint="Pass a str.")
    name = text(value, what).strip()
    if not name:
        raise InvalidNameError(f"The {what} is empty.", hint="Give it a character.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidNameError(
            f"The {what} {name[:40]!r}... is longer than {MAX_NAME_BYTES} bytes.",
            hint="Shorten it; the notes have room for more.",
        )
    if bad := sorted(set(name) & set(forbidden)):
        raise InvalidNameError(
            f"The {what} {name!r} holds {' '.join(bad)!r}.",
            hint=f"Avoid the characters {forbidden}",
        )
    return name
