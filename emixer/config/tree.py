"""Nested plain values, e.g. what a config file holds, and the dotted keys of their leaves."""

from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """The value, or the mapping, at a dotted key; None where there is nothing."""
    node: Any = tree
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def leaves_of(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Everything in the tree that is no mapping, by dotted key. prefix: begins each of them."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= leaves_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves
