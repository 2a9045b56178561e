"""YAML as plain data: no tags that build objects, no key twice, no aliases that grow without end."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = (
    100_000  # in a file with its aliases written out; our largest preset has a few hundred
)
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Composes mappings whose keys are different ones."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the next mapping of the file."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, Any]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.YAMLError(
                    f"the key {key.value!r} is there twice, again in line {key.start_mark.line + 1}"
                )
            seen.add((key.tag, key.value))
        return node


def parse(text: str) -> Any:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: it is not one, or is hostile.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, OverflowError, TypeError) as error:  # numbers and dates that are none
        raise yaml.YAMLError(str(error)) from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for. known: sizes by node; 0 while it is being counted."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("an alias stands for what it is in")
        return known[id(node)]
    known[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    inner = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
    known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]
