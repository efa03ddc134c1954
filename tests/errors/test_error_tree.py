"""The tree of errors: what programs may rely on."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import wanllmdb
from wanllmdb import errors

CLASSES = [
    value
    for name, value in sorted(vars(errors).items())
    if isinstance(value, type)
    and issubclass(value, Exception)
    and not issubclass(value, Warning)
    and name == value.__name__
]
EVERY = pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
EXITS = {
    "NotFoundError": 3, "ConflictError": 4, "InvalidInputError": 2, "StateError": 6,
    "StoreError": 7, "IntegrityError": 5, "MissingExtraError": 9, "RemoteError": 8,
}  # fmt: skip
TREE = {
    "NotFoundError": ["ProjectNotFoundError", "RunNotFoundError",
                      "MetricNotFoundError"],
    "ConflictError": ["RunExistsError", "RunActiveError"],
    "InvalidInputError": ["InvalidNameError", "InvalidConfigError",
                          "InvalidMetricError", "FilterError"],
    "StateError": ["RunFinishedError", "NoActiveRunError", "ReadOnlyError",
                   "StoreClosedError"],
    "StoreError": ["StoreLockedError", "DiskFullError", "NewerStoreError",
                   "MigrationError"],
    "IntegrityError": ["DigestMismatchError", "CorruptSegmentError",
                       "MissingBlobError"],
}  # fmt: skip


def test_every_error_has_one_root():
    """One `except` catches whatever wanllmdb raises on purpose."""
    assert len(CLASSES) > 20
    assert all(issubclass(c, errors.WanllmdbError) for c in CLASSES)
    assert issubclass(errors.WanllmdbWarning, UserWarning)
    assert wanllmdb.WanllmdbError is errors.WanllmdbError


def test_every_kind_is_a_code_of_its_own():
    """Programs tell errors apart by `kind` alone."""
    kinds = [c.__dict__.get("kind") for c in CLASSES]
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", kind) for kind in kinds)


@EVERY
def test_exit_codes_go_by_group(kind):
    """Each class exits as its group does; the root alone with 1."""
    groups = [base.__name__ for base in kind.__mro__ if base.__name__ in EXITS]
    assert len(groups) == (0 if kind is errors.WanllmdbError else 1)
    assert kind.exit_code == (EXITS[groups[0]] if groups else 1)


@pytest.mark.parametrize(("group", "names"), TREE.items(), ids=TREE)
def test_groups_hold_what_the_design_says(group, names):
    """Grouped by what the caller does next."""
    for name in names:
        assert issubclass(getattr(errors, name), getattr(errors, group))


def test_groups_are_pythons_own_kinds_too():
    """Code that knows nothing of us catches them as well."""
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.InvalidInputError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


@EVERY
@pytest.mark.parametrize("carry", [
    lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy,
], ids=["pickle", "copy", "deepcopy"])  # fmt: skip
def test_errors_cross_process_borders_whole(kind, carry):
    """Message, hint and identity come along."""
    error = kind("It broke.", hint="Mend it.", run="p/r", step=3)
    other = carry(error)
    assert type(other) is kind
    assert str(other) == "It broke. Mend it."
    assert (other.message, other.hint) == ("It broke.", "Mend it.")
    assert other.identity == {"run": "p/r", "step": 3}


def test_the_operation_crosses_process_borders_too():
    """The parent finds its worker's failure in the debug log."""
    error = errors.RunNotFoundError("It broke.")
    error.op_id = "op-1"
    assert pickle.loads(pickle.dumps(error)).op_id == "op-1"


@EVERY
def test_every_class_is_drawn_and_documented(kind):
    """The module's docstring draws the tree; each class says when it is raised."""
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__
    assert kind.__doc__ is not kind.__base__.__doc__


def test_the_guide_lists_the_exit_codes(request):
    """docs/guide.md holds the table that the classes make."""
    text = (request.config.rootpath / "docs" / "guide.md").read_text("utf-8")
    section = text.partition("## Errors and exit codes")[2]
    found = dict(re.findall(r"^\| (\d+) \| (\w+Error)", section, re.M))
    wanted = {str(EXITS[n]): n for n in EXITS if hasattr(errors, n)}
    assert found == wanted


def test_wandbs_name_of_the_config_error_still_catches():
    """`wandb.ConfigError` in old handlers is ours."""
    assert wanllmdb.ConfigError is errors.InvalidConfigError


def test_real_errors_carry_identity_and_hint(api):
    """What a program needs to go on is not only in the text."""
    wanllmdb.init(id="r").finish()
    with pytest.raises(errors.RunNotFoundError) as caught:
        api.run("nope")
    assert caught.value.identity["run"] == "nope"
    assert caught.value.hint
    with pytest.raises(errors.RunExistsError) as again:
        wanllmdb.init(id="r", resume="never")
    assert again.value.identity["run"] == "r"
