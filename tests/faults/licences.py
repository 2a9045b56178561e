"""The licences of everything that is installed to run the package, from what the wheels say.

python tests/faults/licences.py     writes docs/licences.md
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/licences.md"
# Licences under which the package may be used and passed on by anyone.
ACCEPTED = (
    "MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "ISC", "MPL", "Mozilla", "HPND",
    "FreeBSD", "Unlicense", "zlib", "CC0", "0BSD", "Public Domain", "FreeType", "Zope", "ZPL",
)  # fmt: skip
# Accepted one by one, each with its reason.
REASONED = {
    "asyncssh": "EPL-2.0 is weak copyleft; DVC speaks SSH with it, it is not changed",
    "grandalf": "EPL-1.0 by choice; DVC draws graphs with it, it is not changed",
    "pygit2": "its exception lets any program link it; DVC reads git with it",
}
HEAD = """\
# Licences

What is installed to run the package with all extras, with the licence that its metadata names. Made by
`python tests/faults/licences.py`; a test compares it with the lock file and with what is accepted. NVIDIA's
libraries come with PyTorch's Linux wheels under NVIDIA's own terms and are not passed on by this repository.

| package | licence |
|---|---|
"""


def locked() -> dict[str, Any]:
    """Return the packages of uv.lock by name."""
    content = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    return {package["name"]: package for package in content["package"]}


def runtime() -> list[str]:
    """Return what the package needs to run here, with all extras, at any depth."""
    environment = default_environment()
    found: set[str] = set()
    extras = importlib.metadata.metadata("wsss").get_all("Provides-Extra") or []
    waiting = [("wsss", frozenset(extras))]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        found.add(name)
        waiting.extend(_needed(name, extras, environment))
    return sorted(found - {"wsss"})


def _needed(
    name: str, extras: frozenset[str], environment: Any
) -> Iterator[tuple[str, frozenset[str]]]:
    for text in importlib.metadata.requires(name) or ():
        wanted = Requirement(text)
        chosen = [{**environment, "extra": extra} for extra in ("", *extras)]
        if wanted.marker is None or any(wanted.marker.evaluate(each) for each in chosen):
            yield canonical(wanted.name), frozenset(wanted.extras)


def canonical(name: str) -> str:
    """Return a package's name as lock files write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """Return the licence that a package's metadata names, in one line."""
    found = importlib.metadata.metadata(name)
    classified = [
        each.rpartition(" :: ")[2]
        for each in found.get_all("Classifier") or ()
        if each.startswith("License :: ") and each != "License :: OSI Approved"
    ]
    free = (found.get("License") or "").strip().splitlines()
    short = free[0] if free and len(free[0]) < 60 else ""
    said = found.get("License-Expression") or ", ".join(classified) or short
    said = said.replace("UNKNOWN", "") or _first_line(name)
    return " ".join(said.split()) or "not said"


def _first_line(name: str) -> str:
    """Return the first line of the licence file that a package brings, or nothing."""
    files = (importlib.metadata.files(name) or ()) if name else ()
    texts = (Path(str(each.locate())) for each in files if "licen" in each.name.lower())
    lines = (text.read_text(encoding="utf-8").strip().splitlines() for text in texts)
    return next((found[0] for found in lines if found), "")


def render() -> str:
    """Return the page."""
    return HEAD + "".join(f"| {name} | {licence(name)} |\n" for name in runtime())


def listed() -> dict[str, str]:
    """Return the licences of the page by package."""
    rows = re.findall(r"^\| (\S+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: said for name, said in rows if name != "package"}


def is_accepted(name: str, said: str) -> bool:
    """Whether a licence may be used: by its own words, or for a reason that is written down."""
    if name in REASONED or name.startswith(("nvidia-", "cuda-")):
        return True
    return any(re.search(rf"\b{re.escape(word)}\b", said, re.IGNORECASE) for word in ACCEPTED)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
