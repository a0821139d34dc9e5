"""Sets of fields of an object, as server-side apply owns, compares, merges and removes them.

A field is a path of FieldsV1's words: ``f:NAME``, ``k:{"KEY":VALUE}`` for a member of a keyed list, ``v:VALUE`` for
one of a set. A set holds leaves, members of keyed lists, and objects or lists that are empty. How a kind's fields can
be owned is hub/apiserver/topology.py's; who owns them is apply.py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hub.apiserver.ordering import reordered
from hub.apiserver.topology import WHOLE, Node

Field = tuple[str, ...]
Fields = frozenset[Field]
NO_FIELDS: Fields = frozenset()


def fields_of(value: Any, node: Node) -> Fields:
    found: set[Field] = set()
    _collect(value, node, (), found)
    return frozenset(found)


def _collect(value: Any, node: Node, path: Field, found: set[Field]) -> None:
    parts = _parts(value, node)
    if not parts:
        if path:
            found.add(path)
        return
    for word, (member, below) in parts.items():
        if word[0] != "f":
            found.add((*path, word))
        _collect(member, below, (*path, word), found)


def _parts(value: Any, node: Node) -> dict[str, tuple[Any, Node]]:
    """What `value` consists of, by word; empty where it is one piece."""
    if isinstance(value, Mapping):
        if node.shape == "fields":
            return {f"f:{name}": (member, node.below(name)) for name, member in value.items()}
    elif isinstance(value, list):
        if node.shape == "set":
            return {f"v:{_text(member)}": (member, WHOLE) for member in value}
        if node.shape == "keyed" and all(isinstance(member, Mapping) for member in value):
            return {_key(member, node): (member, node.member()) for member in value}
    return {}


def _key(member: Mapping[str, Any], node: Node) -> str:
    return "k:" + _text({key: member.get(key, node.defaults.get(key)) for key in node.keys})


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def duplicates(value: Any, node: Node) -> bool:
    """Whether a keyed list or a set somewhere in `value` has the same member twice: nobody could own it."""
    parts = _parts(value, node)
    if isinstance(value, list) and parts and len(parts) != len(value):
        return True
    return any(duplicates(member, below) for member, below in parts.values())


def changes(old: Any, new: Any, node: Node) -> tuple[Fields, Fields]:
    """(fields that are new or have another value, fields that are gone)."""
    changed: set[Field] = set()
    gone: set[Field] = set()
    _compare(old, new, node, (), changed, gone)
    return frozenset(changed), frozenset(gone)


def _compare(old: Any, new: Any, node: Node, path: Field, changed: set[Field], gone: set[Field]) -> None:
    if old is new or (old == new and type(old) is type(new)):
        return
    before, after = _parts(old, node), _parts(new, node)
    if not before or not after:
        _collect(new, node, path, changed)
        if before or after:
            found: set[Field] = set()
            _collect(old, node, path, found)
            gone |= found - changed
        return
    for word, (member, below) in after.items():
        if word in before:
            _compare(before[word][0], member, below, (*path, word), changed, gone)
        else:
            if word[0] != "f":
                changed.add((*path, word))
            _collect(member, below, (*path, word), changed)
    for word, (member, below) in before.items():
        if word not in after:
            if word[0] != "f":
                gone.add((*path, word))
            _collect(member, below, (*path, word), gone)


def merge(live: Any, applied: Any, node: Node) -> Any:
    """`live` with everything that `applied` says; lists by key keep what it does not name. Changes neither."""
    if isinstance(applied, Mapping) and isinstance(live, Mapping) and node.shape == "fields":
        result = dict(live)
        for name, value in applied.items():
            result[name] = merge(live[name], value, node.below(name)) if name in live else value
        return result
    if not (isinstance(applied, list) and isinstance(live, list)) or node.shape not in ("set", "keyed"):
        return applied
    if not applied:
        return live
    before, after = _parts(live, node), _parts(applied, node)
    if not before or not after:
        return applied
    merged = {word: member for word, (member, _) in before.items()}
    for word, (member, below) in after.items():
        merged[word] = merge(merged[word], member, below) if word in merged else member
    words = reordered(list(merged), list(after), lambda word: word)
    return [merged[word] for word in words]


def remove(value: Any, node: Node, gone: Iterable[Field], kept: Fields) -> Any:
    """`value` without the fields `gone`, but for what `kept` holds, or holds something of. What empties so goes too."""
    holders = {path[:length] for path in kept for length in range(1, len(path) + 1)}
    wanted = {path for path in gone if path not in holders}
    if not wanted:
        return value
    touched = {path[:length] for path in wanted for length in range(len(path))}
    # An empty object or list that somebody wants stays, empty.
    return _remove(value, node, (), wanted, touched - kept, touched)


_GONE = object()


def _remove(value: Any, node: Node, path: Field, wanted: set[Field], closing: set[Field], touched: set[Field]) -> Any:
    if path in wanted:
        return _GONE
    if path not in touched:
        return value
    parts = _parts(value, node)
    if not parts:
        return value
    left = {}
    for word, (member, below) in parts.items():
        member = _remove(member, below, (*path, word), wanted, closing, touched)
        if member is not _GONE:
            left[word] = member
    if not left and path and path in closing:
        return _GONE
    if isinstance(value, Mapping):
        return {word[2:]: member for word, member in left.items()}
    return list(left.values())


def to_fields_v1(fields: Fields) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path in sorted(fields):
        at = root
        for word in path:
            at = at.setdefault(word, {})
        at["."] = {}
    return _without_lone_dots(root)


def _without_lone_dots(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        word: {} if word == "." or list(below) == ["."] else _without_lone_dots(below) for word, below in tree.items()
    }


def from_fields_v1(tree: Any) -> Fields:
    """What cannot be read of a record that a client wrote is nobody's."""
    found: set[Field] = set()
    _read(tree, (), found)
    return frozenset(found)


def _read(tree: Any, path: Field, found: set[Field]) -> None:
    if not isinstance(tree, Mapping) or len(path) > 100:
        return
    if path and (not tree or "." in tree):
        found.add(path)
    for word, below in tree.items():
        if word != "." and word[1:2] == ":":
            _read(below, (*path, word), found)


def spell(field: Field) -> str:
    """``.spec.containers[name="main"].image``, as conflicts name fields."""
    text = ""
    for word in field:
        kind, rest = word[0], word[2:]
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            try:
                keys = json.loads(rest)
            except ValueError:
                keys = {}
            text += "[" + ",".join(f"{key}={_text(value)}" for key, value in sorted(keys.items())) + "]"
        else:
            text += f"[={rest}]"
    return text
