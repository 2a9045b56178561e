"""What is wrong with a value of the settings, in the words of a person who writes YAML.

Imports neither torch nor timm: the Snakefile uses this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Keys whose values are paths, at any depth.
PATHS = (
    "root",
    "table",
    "sbd",
    "saliency",
    "checkpoint",
    "initial_file",
    "results",
    "methods_path",
)
DRIVE = re.compile(r"([A-Za-z]):[\\/]+(.*)", re.DOTALL)
LIST = "write a list, such as [a, b]"
WORD_OF_YAML = "YAML reads the words yes, no, on and off as true or false; write such a word in quotes, as 'no'"
PHRASES = {  # by pydantic's type of an error
    "tuple_type": LIST,
    "list_type": LIST,
    "dict_type": "write `key: value` lines below it, or leave it out",
    "model_type": "write `key: value` lines below it, or leave it out",
    "string_too_short": "it is empty; write a text, or leave the key out",
    "missing": "this key is missing; write it",
}


def phrase(item: ErrorDetails) -> str:
    """Return what is wrong with a value, what is allowed, and the value."""
    kind, value = item["type"], item["input"]
    text = PHRASES.get(kind, item["msg"].removeprefix("Value error, "))
    if kind in ("string_type", "tuple_type") and isinstance(value, bool):
        text = f"{LIST}; {WORD_OF_YAML}" if kind == "tuple_type" else WORD_OF_YAML
    elif kind == "string_type" and isinstance(value, int | float):
        text = f"it must be a text; write it in quotes, as '{value}'"
    return text if kind == "missing" else f"{text} (got {short(value)})"


def short(value: object) -> str:
    """Return a value as Python writes it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def yaml_advice(reason: str) -> str:
    """Return what to do about an error of the YAML parser, if a path of Windows is a likely cause."""
    if "escape" not in reason:
        return ""
    return ". In double quotes a backslash begins an escape; write paths with / and without quotes"


def foreign_paths(settings: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield a phrase for each path in nested settings that only Windows can read."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from foreign_paths(value, f"{prefix}{key}.")
        elif key in PATHS:
            paths = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
            yield from (
                f"{prefix}{key}: {path!r} is a path of Windows; write {posix_path(path)}"
                for path in paths
                if isinstance(path, str) and ("\\" in path or DRIVE.fullmatch(path))
            )


def posix_path(path: str) -> str:
    """Return a path of Windows as this system writes it; drives are where WSL has them."""
    drive = DRIVE.fullmatch(path)
    if drive:
        return (
            f"/mnt/{drive[1].lower()}/{posix_path(drive[2])} (if Windows' drives are mounted there)"
        )
    return path.replace("\\", "/")
