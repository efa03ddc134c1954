"""Run filters as people write them: text, or W&B's dicts, both to one tree.

Text: ``config.lr < 0.01 and (summary."val/loss" <= 0.3 or tag:best)``. Operators are
``= == != < <= > >= ~ !~ in``, ``not in``, ``exists``; ``is null``, ``is not null``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from wanllmdb.errors import FilterError

MAX_DEPTH = 100
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<op><=|>=|!=|==|!~|[=<>~(),:])
    |(?P<word>[^\s"'=<>~(),:!]+)
    )""",
    re.VERBOSE,
)
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">",
              ">=": ">=", "~": "~", "!~": "!~"}  # fmt: skip
_MONGO = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=",
          "$in": "in", "$regex": "~"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compare:
    """One test of a field; op is one of = != < <= > >= ~ in exists."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Not:
    """What does not hold."""

    item: Condition


@dataclass(frozen=True, slots=True)
class Both:
    """All (word "and") or any (word "or") of several conditions."""

    word: str
    items: tuple[Condition, ...]


Condition: TypeAlias = Compare | Not | Both


def parse(text: str) -> Condition:
    """The tree of a text filter.

    Raises:
        FilterError: it cannot be read; the message shows where.
    """
    parser = _Parser(text)
    condition = parser.alternatives(0)
    if parser.peek() is not None:
        raise parser.error("expected 'and', 'or' or the end")
    return condition


def from_mapping(mapping: Mapping[str, Any], depth: int = 0) -> Condition:
    """The tree of W&B's dict form.

    Raises:
        FilterError: an operator is unknown, or it is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise FilterError("The filter is nested too deeply.", hint="Simplify it.")
    items: list[Condition] = []
    for key, value in mapping.items():
        if key in ("$and", "$or", "$nor"):
            parts = tuple(from_mapping(part, depth + 1) for part in value)
            both = Both("and" if key == "$and" else "or", parts)
            items.append(Not(both) if key == "$nor" else both)
        elif key == "$not":
            items.append(Not(from_mapping(value, depth + 1)))
        elif key.startswith("$"):
            raise FilterError(
                f"There is no operator {key!r}.", hint="See docs/guide.md."
            )
        else:
            items.append(_of_field(key, value, depth))
    return items[0] if len(items) == 1 else Both("and", tuple(items))


def _of_field(field: str, value: Any, depth: int) -> Condition:
    if not isinstance(value, Mapping):
        return Compare(field, "=", value)
    items: list[Condition] = []
    for op, operand in value.items():
        if op == "$not":
            items.append(Not(_of_field(field, operand, depth + 1)))
        elif op == "$exists":
            found = Compare(field, "exists", None)
            items.append(found if operand else Not(found))
        elif op == "$nin":
            items.append(Not(Compare(field, "in", list(operand))))
        elif op == "$all":
            items += [Compare(field, "=", one) for one in operand]
        elif op in _MONGO:
            items.append(Compare(field, _MONGO[op], operand))
        else:
            raise FilterError(
                f"There is no operator {op!r}.", hint="See docs/guide.md."
            )
    return items[0] if len(items) == 1 else Both("and", tuple(items))


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                self._tokens.append(("bad", text[position:], position))
                break
            kind = match.lastgroup or "bad"
            self._tokens.append((kind, match[kind], match.start(kind)))
            position = match.end()

    def peek(self) -> str | None:
        """The next token's text, words in lower case; None at the end."""
        if self._at >= len(self._tokens):
            return None
        kind, text, _ = self._tokens[self._at]
        return text.lower() if kind == "word" else text

    def error(self, expected: str) -> FilterError:
        """An error that points at the next token."""
        done = self._at >= len(self._tokens)
        where = len(self._text) if done else self._tokens[self._at][2]
        return FilterError(
            f"The filter cannot be read at column {where + 1}: {expected}.\n"
            f"  {self._text}\n  {' ' * where}^",
            hint='Example: config.lr < 0.01 and summary."val/loss" < 0.3 and tag:best',
        )

    def alternatives(self, depth: int) -> Condition:
        """Conditions joined by ``or``."""
        items = [self._all(depth)]
        while self._take("or"):
            items.append(self._all(depth))
        return items[0] if len(items) == 1 else Both("or", tuple(items))

    def _all(self, depth: int) -> Condition:
        items = [self._one(depth)]
        while self._take("and"):
            items.append(self._one(depth))
        return items[0] if len(items) == 1 else Both("and", tuple(items))

    def _one(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise self.error("it is nested too deeply")
        if self._take("not"):
            return Not(self._one(depth + 1))
        if self._take("("):
            inner = self.alternatives(depth + 1)
            if not self._take(")"):
                raise self.error("expected ')'")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        field = self._field()
        if self._take(":"):
            return Compare(field, "=", self._value())
        if self._take("exists"):
            return Compare(field, "exists", None)
        if self._take("is"):
            negative = self._take("not")
            if not self._take("null"):
                raise self.error("expected 'null'")
            found = Compare(field, "exists", None)
            return found if negative else Not(found)
        negative = self._take("not")
        if self._take("in"):
            within = Compare(field, "in", self._values())
            return Not(within) if negative else within
        op = _OPERATORS.get(self.peek() or "")
        if op is None or negative:
            raise self.error("expected a comparison such as = < > ~ in")
        self._at += 1
        value = self._value()
        if op == "!~":
            return Not(Compare(field, "~", value))
        return Compare(field, op, value)

    def _field(self) -> str:
        kind, name, _ = self._next("expected a field such as config.lr")
        if kind == "op" or kind == "bad":
            self._at -= 1
            raise self.error("expected a field such as config.lr")
        if kind == "text":
            return _unquoted(name)
        quoted = self._at < len(self._tokens) and self._tokens[self._at][0] == "text"
        if name.endswith(".") and quoted:
            return name + _unquoted(self._next("")[1])
        return name

    def _values(self) -> list[Any]:
        if not self._take("("):
            raise self.error("expected '('")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        if not self._take(")"):
            raise self.error("expected ',' or ')'")
        return values

    def _value(self) -> Any:
        kind, text, _ = self._next("expected a value")
        if kind == "text":
            return _unquoted(text)
        if kind != "word":
            self._at -= 1
            raise self.error("expected a value")
        words = {"true": True, "false": False, "null": None, "none": None}
        if text.lower() in words:
            return words[text.lower()]
        for convert in (int, float):
            try:
                return convert(text)
            except ValueError:
                continue
        return text

    def _next(self, expected: str) -> tuple[str, str, int]:
        if self._at >= len(self._tokens):
            raise self.error(expected)
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, text: str) -> bool:
        if self.peek() != text or self._tokens[self._at][0] == "text":
            return False
        self._at += 1
        return True


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
