"""config: its forms, its access, its changes."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import threading
from pathlib import Path

import pytest

import wanllmdb
from wanllmdb._catalog.connection import Database
from wanllmdb.errors import InvalidConfigError, NoActiveRunError


class Size(enum.Enum):
    """Two words."""

    SMALL = "s"


class Level(enum.IntEnum):
    """A number with a name."""

    HIGH = 3


@dataclasses.dataclass
class Optim:
    """Part of a config."""

    lr: float = 0.1
    betas: tuple = (0.9, 0.99)


@dataclasses.dataclass
class Args:
    """A config."""

    optim: Optim = dataclasses.field(default_factory=Optim)
    out: Path = Path("/tmp/x")
    size: Size = Size.SMALL


@pytest.fixture
def stored(api):
    """The stored config of a run that was given this one."""

    def record(config, **options):
        with wanllmdb.init(config=config, **options) as run:
            pass
        return api.run(run.path).config

    return record


def test_a_dataclass_becomes_a_dict_with_all_it_holds(stored):
    """Nested dataclasses, tuples, paths and enums as their plain forms."""
    assert stored(Args()) == {
        "optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "out": "/tmp/x", "size": "s",
    }  # fmt: skip


def test_a_namespace_becomes_a_dict(stored):
    """What argparse returns is passed as it is."""
    args = argparse.Namespace(lr=0.1, layers=[1, 2], sub=argparse.Namespace(x=1))
    assert stored(args) == {"lr": 0.1, "layers": [1, 2], "sub": {"x": 1}}


def test_an_omegaconf_becomes_a_dict(stored):
    """With interpolations resolved."""
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {"a": {"b": 1}, "c": "${a.b}", "l": [1, {"x": 2}]}
    )
    assert stored(config) == {"a": {"b": 1}, "c": 1, "l": [1, {"x": 2}]}
    assert stored({"whole": config})["whole"]["l"] == [1, {"x": 2}]


def test_values_take_their_plain_forms(stored):
    """A tuple and set to list, Path to text, Enum to value; NumPy to numbers."""
    import numpy as np

    found = stored({
        "t": (1, 2), "s": {3}, "f": frozenset({"x"}), "p": Path("/a/b"),
        "e": Size.SMALL, "i": Level.HIGH, "n": None, 5: "int key",
        "np": np.float32(0.5),
        "arr": np.arange(3), "d": {"t": (Size.SMALL,)},
    })  # fmt: skip
    assert found == {
        "t": [1, 2], "s": [3], "f": ["x"], "p": "/a/b", "e": "s", "i": 3, "n": None,
        "5": "int key", "np": 0.5, "arr": [0, 1, 2], "d": {"t": ["s"]},
    }  # fmt: skip


def test_what_has_no_plain_form_is_kept_as_its_text(stored):
    """A function or an object is no reason to fail."""
    found = stored({"f": len, "o": object(), "ok": 1})
    assert found["f"] == "<built-in function len>"
    assert found["o"].startswith("<object object")
    assert found["ok"] == 1


def test_numbers_of_a_config_are_exact(stored):
    """NaN, infinities and large integers as everywhere."""
    found = stored({"nan": math.nan, "inf": -math.inf, "big": 2**70, "f": 0.1})
    assert math.isnan(found.pop("nan"))
    assert found == {"inf": -math.inf, "big": 2**70, "f": 0.1}


@pytest.mark.parametrize(
    "text",
    [
        "lr: 3\nn: {x: 1}\n",
        "lr: {value: 3}\nn: {desc: d, value: {x: 1}}\n",
        "wandb_version: 1\nlr: {desc: null, value: 3}\nn: {value: {x: 1}}\n",
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_yaml_file_is_a_config(text, kind, stored, tmp_path):
    """Plain keys, and W&B's form with value and desc."""
    pytest.importorskip("yaml")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert stored(kind(path)) == {"lr": 3, "n": {"x": 1}}


@pytest.mark.parametrize("bad", [3, "missing.yaml", object(), [1, 2]])
def test_what_is_no_config_is_refused(bad):
    """With our ConfigError, which W&B's scripts may catch by that name."""
    with pytest.raises(InvalidConfigError) as caught:
        wanllmdb.init(config=bad)
    assert isinstance(caught.value, wanllmdb.ConfigError)
    assert wanllmdb.run is None


def test_include_and_exclude_choose_keys(stored):
    """As W&B's keywords say."""
    data = {"a": 1, "b": 2, "c": 3}
    assert stored(data, config_include_keys=["a", "b"]) == {"a": 1, "b": 2}
    assert stored(data, config_exclude_keys=["a"]) == {"b": 2, "c": 3}


def test_attributes_and_items_go_as_deep_as_the_config(api):
    """Read, written and deleted, by either way."""
    run = wanllmdb.init(config={"optim": {"lr": 0.1, "sched": {"warmup": 5}}, "x": 1})
    config = run.config
    assert config.optim.sched.warmup == config["optim"]["sched"]["warmup"] == 5
    with pytest.warns(wanllmdb.WanllmdbWarning, match="config.optim was changed"):
        config.optim.lr = 0.2
    config["optim"]["sched"]["warmup"] = 6
    config.new = {"deep": {"er": 1}}
    config.new.deep.er = 2
    del config.x
    assert "x" not in config
    assert config.get("missing", 7) == 7
    assert sorted(config.keys()) == ["new", "optim"]
    assert dict(config)["optim"]["lr"] == 0.2
    run.finish()
    assert api.run(run.path).config == {
        "optim": {"lr": 0.2, "sched": {"warmup": 6}}, "new": {"deep": {"er": 2}},
    }  # fmt: skip


def test_a_missing_key_is_an_attribute_or_key_error():
    """So that getattr with a default and hasattr work."""
    run = wanllmdb.init(config={"a": {"b": 1}})
    assert not hasattr(run.config, "nope")
    assert getattr(run.config.a, "nope", 3) == 3
    with pytest.raises(KeyError):
        run.config["nope"]


def test_a_config_may_be_unpacked_and_passed_on(stored):
    """`f(**config)`, and another run's config=."""
    with wanllmdb.init(config={"a": 1, "b": {"c": 2}}) as run:
        assert {**run.config} == {"a": 1, "b": {"c": 2}}
        assert run.config.items() == {"a": 1, "b": {"c": 2}}.items()
        assert run.config.as_dict() == {"a": 1, "b": {"c": 2}}
    assert stored(run.config) == {"a": 1, "b": {"c": 2}}


def test_what_is_read_is_what_is_stored():
    """A tuple reads back as the list that others will see."""
    run = wanllmdb.init(config={"t": (1, 2), "p": Path("/x")})
    assert (run.config.t, run.config["p"]) == ([1, 2], "/x")


def test_others_see_a_change_at_once(ok):
    """The config is live, also in other processes."""
    run = wanllmdb.init(id="r", config={"a": 1})
    with pytest.warns(wanllmdb.WanllmdbWarning, match="config.a was changed"):
        run.config.a = 2
    run.config.update({"b": 3})
    assert ok("print(wandb.Api().run('r').config)").strip() == "{'a': 2, 'b': 3}"


def test_updates_take_every_form(api, tmp_path):
    """Mapping, dataclass, Namespace, keywords; setdefaults keeps what is set."""
    with wanllmdb.init(config={"a": 1}) as run:
        run.config.update(Optim())
        run.config.update(argparse.Namespace(ns=1), kw=2)
        run.config.setdefaults({"a": 9, "d": 4})
    assert api.run(run.path).config == {
        "a": 1, "lr": 0.1, "betas": [0.9, 0.99], "ns": 1, "kw": 2, "d": 4,
    }  # fmt: skip


@pytest.mark.parametrize("logs", [False, True])
def test_a_changed_value_is_recorded_as_an_event_and_warned_of_once(logs, api):
    """W&B refuses it; here it is allowed, and seen, before rows and after them."""
    run = wanllmdb.init(config={"lr": 1, "n": {"x": 1}})
    if logs:
        run.log({"a": 1})

    def change():
        run.config.lr = 2
        run.config.lr = 3
        run.config.n.x = 4

    with pytest.warns(wanllmdb.WanllmdbWarning, match="lr") as told:
        change()
    assert len(told) == 1
    run.finish()
    changes = [
        (e.before, e.after) for e in api.run(run.path).events if e.kind == "config"
    ]
    assert changes == [
        ({"lr": 1}, {"lr": 2}), ({"lr": 2}, {"lr": 3}),
        ({"n": {"x": 1}}, {"n": {"x": 4}}),
    ]  # fmt: skip


def test_a_new_key_is_no_changed_value(api):
    """Results of a setup phase are added without a word, also after rows."""
    with wanllmdb.init(config={"lr": 1}) as run:
        run.config.before = 1
        run.log({"a": 1})
        run.config.after = 2
        run.config.update({"more": 3, "lr": 1})
    assert api.run(run.path).config == {"lr": 1, "before": 1, "after": 2, "more": 3}


def test_a_change_with_permission_says_nothing(api):
    """allow_val_change=True, in update or in init, is the script's own yes."""
    with wanllmdb.init(config={"lr": 1}) as run:
        run.log({"a": 1})
        run.config.update({"lr": 2}, allow_val_change=True)
    with wanllmdb.init(config={"lr": 1}, allow_val_change=True) as other:
        other.log({"a": 1})
        other.config.lr = 2
    assert [api.run(r.path).config["lr"] for r in (run, other)] == [2, 2]


def test_an_update_with_an_equal_value_is_no_change(api):
    """Nothing is recorded and nothing said."""
    with wanllmdb.init(config={"lr": 1, "t": (1, 2)}) as run:
        run.log({"a": 1})
        run.config.update({"lr": 1, "t": (1, 2)})
    assert [e for e in api.run(run.path).events if e.kind == "config"] == []


def test_config_before_init_is_refused_not_lost():
    """What is set on no run would vanish without a word."""
    with pytest.raises(NoActiveRunError):
        wanllmdb.config.lr = 1
    with pytest.raises(NoActiveRunError):
        wanllmdb.config.update({"lr": 1})


def test_a_config_with_half_a_character_or_nul_is_kept_escaped(stored):
    """No text of a config, key or value, can make init() fail."""
    found = stored({"bad": "\ud800", "nul": "a\0b", "in": {"k\ud800": 1}, "k\ud800": 2})
    assert "ud800" in found["bad"]
    assert "\0" not in found["nul"]
    assert sorted(found["in"].values()) == [1]
    assert 2 in found.values()


def test_a_change_that_could_not_be_stored_is_stored_with_the_next_one(
    api, monkeypatch
):
    """A Ctrl-C in the middle of the write loses no key of the config."""
    real = Database._begin

    def interrupted(self, *args):
        if threading.current_thread() is not threading.main_thread():
            return real(self, *args)
        monkeypatch.setattr(Database, "_begin", real)
        raise KeyboardInterrupt

    with wanllmdb.init() as run:
        monkeypatch.setattr(Database, "_begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.config.update({"a": 1})
        run.config.update({"b": 2})
        assert api.run(run.path).config == {"a": 1, "b": 2}
        monkeypatch.setattr(Database, "_begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.config.update({"c": 3})
    assert api.run(run.path).config == {"a": 1, "b": 2, "c": 3}
