"""Conda environment, container and lock hold the same packages, and the environment is enough for a stage."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

SCRIPT = ROOT / "envs/wsss.post-deploy.sh"
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")

IMPORT_ALL = """
import importlib, pkgutil, wsss

for module in pkgutil.walk_packages(wsss.__path__, "wsss."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def _environment() -> list[str]:
    return yaml.safe_load((ROOT / "envs/wsss.yaml").read_text())["dependencies"]


def _pins() -> dict[str, set[str]]:
    """Return the hashes of each pinned package, by `name==version`."""
    pins = re.findall(r"^(\S+==\S+) \\\n((?: +--hash=.*\n)+)", SCRIPT.read_text(), re.MULTILINE)
    return {pin: set(re.findall(r"sha256:[0-9a-f]{64}", hashes)) for pin, hashes in pins}


def test_the_pins_of_the_conda_environment_are_those_that_the_lock_gives(tmp_path: Path) -> None:
    for name in ("envs", "uv.lock"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    copied = tmp_path / "envs/wsss.post-deploy.sh"
    copied.write_text(copied.read_text().replace("torch==", "torch==0."))
    subprocess.run([sys.executable, tmp_path / "envs/pins.py"], check=True)
    assert copied.read_text() == SCRIPT.read_text()


def test_every_hash_is_one_of_the_lock() -> None:
    files = {
        f"{package['name']}=={package['version']}": [
            *package.get("wheels", []),
            *([package["sdist"]] if "sdist" in package else []),
        ]
        for package in LOCK
        if "version" in package
    }
    for pin, hashes in _pins().items():
        assert hashes
        assert hashes <= {file["hash"] for file in files[pin]}, pin


def test_every_package_that_a_stage_imports_is_pinned() -> None:
    extras = PROJECT["optional-dependencies"]
    direct = [*PROJECT["dependencies"], *extras["crf"], *extras["lite"], *extras["coco"]]
    names = {re.split("[<>=]", line)[0] for line in direct}
    pinned = {pin.split("==")[0] for pin in _pins()}
    assert names - pinned == {"snakemake", "dvc"}  # those of the head


def test_the_python_of_the_conda_environment_is_that_of_the_pins() -> None:
    [python] = re.findall(r'PYTHON = "([\d.]+)"', (ROOT / "envs/pins.py").read_text())
    assert f"python={python}" in _environment()


@pytest.mark.slow
@pytest.mark.skipif(not Path(UV).is_file(), reason="there is no uv to install with")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins are for Python 3.11")
def test_the_script_makes_an_environment_in_which_every_module_is_imported(tmp_path: Path) -> None:
    prefix = tmp_path / "environment"
    venv.create(prefix, symlinks=True)
    path = [str(prefix / "bin"), str(Path(UV).parent), os.environ["PATH"]]
    variables = {"CONDA_PREFIX": str(prefix), "PATH": os.pathsep.join(path)}
    variables |= {key: os.environ[key] for key in os.environ if key not in ("PATH", "PYTHONPATH")}
    script = shutil.copy(SCRIPT, tmp_path / "copy.post-deploy.sh")
    subprocess.run(["bash", script], cwd=tmp_path, env=variables, check=True)
    subprocess.run(["python", "-c", IMPORT_ALL], cwd=ROOT, env=variables, check=True)


def test_the_container_is_made_from_the_lock() -> None:
    recipe = (ROOT / "envs/wsss.def").read_text()
    assert "uv.lock /opt/wsss/uv.lock" in recipe
    assert "uv sync --frozen" in recipe
    assert set(re.findall(r"--extra (\w+)", recipe)) <= set(PROJECT["optional-dependencies"])
    for line in recipe.split("%files")[1].split("%post")[0].split("\n"):
        assert not line.strip() or (ROOT / line.split()[0]).is_file()


def test_the_container_starts_from_a_digest_with_the_python_of_conda() -> None:
    recipe = (ROOT / "envs/wsss.def").read_text()
    assert re.search(r"^From: python@sha256:[0-9a-f]{64}$", recipe, re.MULTILINE)
    [python] = re.findall(r"^# python:([\d.]+)-slim-", recipe, re.MULTILINE)
    assert f"python={python}" in _environment()
    assert re.search(r"uv==[\d.]+ \\\n +--hash=sha256:[0-9a-f]{64}", recipe)
