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
_ALIAS_FORBIDDEN = "/\\:@,#?%*"
_ARTIFACT = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_VERSION = re.compile(r"v[0-9]+\Z")
LATEST = "latest"
"""The selector of the newest version; no alias, for it is derived."""
REGISTRY = "model-registry"
"""What stands in a path for the project where a model is named, as W&B has it."""
_REGISTRIES = "wandb-registry-"

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


def artifact(value: object, what: str = "an artifact") -> str:
    """An artifact's name.

    Raises:
        InvalidNameError: not 1 to 128 of ASCII letters, digits and ``._-``; the message
            names `what`.
    """
    if not isinstance(value, str) or not _ARTIFACT.match(value):
        raise InvalidNameError(
            f"{str(value)[:140]!r} is no name for {what}.",
            hint="Use 1 to 128 letters, digits, dots, dashes and underscores.",
        )
    return value


def model(value: object) -> str:
    """A model's name; as `artifact`.

    Raises:
        InvalidNameError: not 1 to 128 of ASCII letters, digits and ``._-``.
    """
    return artifact(value, "a model")


def model_of(target: object) -> str:
    """The model that W&B's path of a collection names.

    Args:
        target: ``NAME``, ``model-registry/NAME`` or ``wandb-registry-X/NAME``; an
            entity, or another project, is left out.

    Raises:
        InvalidNameError: it is no such path.
    """
    return model(target.rpartition("/")[2] if isinstance(target, str) else target)


def is_registry(project: str | None) -> bool:
    """Whether a path's project stands for the registry."""
    return project is not None and (
        project == REGISTRY or project.startswith(_REGISTRIES)
    )


def artifact_type(value: object) -> str:
    """An artifact's type.

    Raises:
        InvalidNameError: empty, over 255 bytes, or with a slash or a colon.
    """
    return _checked(value, "artifact type", "/:")


def alias(value: object) -> str:
    r"""An alias, as it is shown.

    Raises:
        InvalidNameError: empty, over 255 bytes, with one of ``/\:@,#?%*``, or a name
            that is derived: ``latest``, ``v3``.
    """
    name = _checked(value, "alias", _ALIAS_FORBIDDEN)
    if is_derived(name):
        raise InvalidNameError(
            f"{name!r} is no alias: it follows from the versions' numbers.",
            hint="Choose another name.",
        )
    return name


def is_derived(name: object) -> bool:
    """Whether a selector follows from the versions: ``latest``, or a number."""
    key = alias_key(name) if isinstance(name, str) else ""
    return key == LATEST or _VERSION.match(key) is not None


def version_number(selector: str) -> int:
    """The number of a selector ``vN``; beyond 64 bits the highest, which none has."""
    digits = selector[1:].lstrip("0")
    return min(int(digits[:20] or "0"), (1 << 63) - 1)


def alias_key(name: str) -> str:
    """What two aliases that are one have in common: NFC, whatever the case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def artifact_path(value: object) -> tuple[str | None, str, str]:
    """Project, name and selector of ``[entity/][project/]name[:selector]``.

    Args:
        value: The path; an entity, as W&B has it, is left out.

    Returns:
        The project is None where the path names none.
        The selector is an alias, ``vN`` or ``@digest``; ``latest`` where there is none.

    Raises:
        InvalidNameError: a part is no such name.
    """
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InvalidNameError(
            f"An artifact's path is text, not {kind}.", hint="Use a str."
        )
    head, slash, tail = lookup(value).rpartition("/")
    name, colon, selector = tail.partition(":")
    project = head.rpartition("/")[2] if slash else None
    if colon and not selector:
        raise InvalidNameError(f"{value!r} ends with a colon.", hint="Name an alias.")
    return project, artifact(name), selector or LATEST


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
