"""What is installed: by hash, under licences that are known, and without a network in the tests."""

import re
import socket

import pytest
from licences import PAGE, REASONED, ROOT, is_accepted, listed, locked, runtime

HASH = re.compile(r"sha256:[0-9a-f]{64}")


def test_every_locked_file_has_its_hash() -> None:
    for name, package in locked().items():
        if name == "wsss":
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        assert files, name
        assert all(HASH.fullmatch(each["hash"]) for each in files), name
        assert all(each["url"].startswith("https://") for each in files), name


def test_every_package_comes_from_the_public_index() -> None:
    sources = {name: package["source"] for name, package in locked().items() if name != "wsss"}
    assert {source["registry"] for source in sources.values()} == {"https://pypi.org/simple"}


def test_every_package_that_is_installed_to_run_is_locked_and_listed() -> None:
    assert set(runtime()) <= set(locked())
    assert set(runtime()) <= set(listed()), f"run {PAGE.name}'s script again"


def test_every_licence_is_accepted() -> None:
    odd = [f"{name}: {said}" for name, said in listed().items() if not is_accepted(name, said)]
    assert odd == []
    assert set(REASONED) <= set(listed())


@pytest.mark.parametrize("said", ["not said", "Proprietary", "AGPL-3.0", "GPL-3.0-only"])
def test_other_licences_are_not_accepted(said: str) -> None:
    assert not is_accepted("some-package", said)


def test_how_known_weaknesses_are_looked_for_is_documented() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert "pip-audit" in text
    assert "uv export --frozen" in text


def test_a_test_that_calls_the_network_is_stopped() -> None:
    with socket.socket() as caller, pytest.raises(RuntimeError, match="no network in tests"):
        caller.connect(("192.0.2.1", 80))  # reserved for documentation
    with pytest.raises(RuntimeError, match="no network in tests"):
        socket.create_connection(("example.org", 80), timeout=0.1)


def test_a_test_may_talk_to_its_own_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
