"""Read YAML as plain data: refuse tags that build objects, repeated keys and exploding aliases."""

from __future__ import annotations

from typing import Any

import yaml

# Values of a file once its aliases are expanded; our largest preset has a few hundred.
MOST_VALUES = 100_000
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Refuses mappings that repeat a key."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the next mapping of the document."""
        node = super().compose_mapping_node(anchor)
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if (key.tag, key.value) in keys:
                raise yaml.YAMLError(
                    f"the key {key.value!r} is there twice, again in line {key.start_mark.line + 1}"
                )
            keys.add((key.tag, key.value))
        return node


def parse(text: str) -> Any:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: the text is not YAML, or it is hostile.
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
    except (ValueError, OverflowError, TypeError) as error:  # malformed numbers and dates
        raise yaml.YAMLError(str(error)) from None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many values a node expands to. sizes: by node id; 0 while a node is counted."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise yaml.YAMLError("an alias contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    children = (child for part in parts for child in (part if isinstance(part, tuple) else (part,)))
    sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]
