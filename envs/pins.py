"""Writes the packages of uv.lock, with their hashes, into wsss.post-deploy.sh: `make pins`.

The packages are those that a job needs, for the Python of wsss.yaml on Linux. Snakemake and DVC, which plan jobs, stay
out with all that they alone need.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ENVS = Path(__file__).parent
SCRIPT = ENVS / "wsss.post-deploy.sh"
LOCK = ENVS.parent / "uv.lock"

PYTHON = "3.11"  # of wsss.yaml
EXTRAS = ("crf", "coco", "lite")
HEAD = ("snakemake", "dvc")
MACHINES = ("x86_64", "aarch64")
TARGETS = [
    {"python_full_version": f"{PYTHON}.0", "sys_platform": "linux", "platform_machine": machine}
    for machine in MACHINES
]
WHEEL = re.compile(
    r"-(py3|py2\.py3|cp311|cp3\d+-abi3)[-.\w]*-(any|manylinux[.\w]*_(x86_64|aarch64))\.whl$"
)

Package = dict[str, Any]


def is_for_target(markers: list[str]) -> bool:
    """Return whether one of the markers, or no marker at all, is true on a machine of `TARGETS`."""
    return not markers or any(
        Marker(line).evaluate(target) for line in markers for target in TARGETS
    )


class Lock:
    """The packages of uv.lock that fit `TARGETS`."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self._packages = {
            package["name"]: package
            for package in tomllib.loads(path.read_text(encoding="utf-8"))["package"]
            if is_for_target(package.get("resolution-markers", []))
        }

    def needed(self) -> list[Package]:
        """Return what jobs import, what that needs, and what compiles it, by name."""
        project = self._packages["wsss"]
        direct = [entry for entry in project["dependencies"] if entry["name"] not in HEAD]
        extras = [entry for extra in EXTRAS for entry in project["optional-dependencies"][extra]]
        pending = [*direct, *extras, *project["dev-dependencies"]["build"]]
        reached: set[tuple[str, str]] = set()
        while pending:
            entry = pending.pop()
            if not is_for_target([entry["marker"]] if "marker" in entry else []):
                continue
            for extra in ("", *entry.get("extra", ())):
                if (entry["name"], extra) not in reached:
                    reached.add((entry["name"], extra))
                    pending += self._dependencies(entry["name"], extra)
        return [self._packages[name] for name in sorted({name for name, _ in reached})]

    def _dependencies(self, name: str, extra: str) -> list[Package]:
        package = self._packages[name]
        if extra:
            return package.get("optional-dependencies", {}).get(extra, [])
        return package.get("dependencies", [])


def wheel_hashes(package: Package) -> list[str]:
    """Return the hashes of the wheels of a package that `TARGETS` can install."""
    return [wheel["hash"] for wheel in package.get("wheels", []) if WHEEL.search(wheel["url"])]


def requirement(package: Package, hashes: list[str]) -> str:
    """Return a package as pip reads it: its version, then each hash on a line."""
    return " \\\n    ".join(
        [f"{package['name']}=={package['version']}", *(f"--hash={value}" for value in hashes)]
    )


def pins(packages: list[Package]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each list of the script with its lines: wheels, and sources to compile."""
    compiled = [package for package in packages if not wheel_hashes(package)]
    wheels = [package for package in packages if package not in compiled]
    yield "WHEELS", [requirement(package, wheel_hashes(package)) for package in wheels]
    yield "SOURCES", [requirement(package, [package["sdist"]["hash"]]) for package in compiled]


def script(text: str, lock: Lock) -> str:
    """Return the text of the script with the pins of a lock in place of its own."""
    for name, lines in pins(lock.needed()):
        start, rest = text.split(f"<<'{name}'\n")
        end = rest.partition(f"\n{name}\n")[2]
        text = "\n".join([f"{start}<<'{name}'", *lines, name, end])
    return text


if __name__ == "__main__":
    SCRIPT.write_text(script(SCRIPT.read_text(encoding="utf-8"), Lock(LOCK)), encoding="utf-8")
