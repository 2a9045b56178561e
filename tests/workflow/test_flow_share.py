"""Results and prepared data are shared: a real S3 server, a fresh clone, a cache between checkouts."""

import http.client
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from checkout import Checkout, ran
from processes import SECONDS, running

TABLES = ("results/table.csv", "results/metrics.json", "results/classes.csv")

pytestmark = pytest.mark.slow  # each waits for a store on S3, or for a second run


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Return the address of an S3 server on this machine with an empty bucket `wsss`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        _create(port, server)
        yield address


def _create(port: int, server: psutil.Popen) -> None:
    """Make the bucket once the server answers."""
    end = time.monotonic() + SECONDS
    while True:
        assert server.poll() is None, "moto's server ended: uv sync --all-extras"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("PUT", "/wsss")
            assert connection.getresponse().status == 200
            return
        except OSError:
            assert time.monotonic() < end, "moto's server does not answer"
            time.sleep(0.2)
        finally:
            connection.close()


def connect(checkout: Checkout, address: str) -> None:
    """Let DVC of a checkout know the server, as docs/versions.md says."""
    checkout.call("dvc", "remote", "add", "--default", "--force", "s3", "s3://wsss/store")
    checkout.call("dvc", "remote", "modify", "s3", "endpointurl", address)
    for key in ("access_key_id", "secret_access_key"):
        checkout.call("dvc", "remote", "modify", "--local", "s3", key, "test")


@pytest.fixture(scope="module")
def clone(
    recorded: Checkout, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    """Return a fresh clone whose data came from the S3 server alone."""
    folder = tmp_path_factory.mktemp("s3")
    sender = recorded.copy(folder / "sender")
    connect(sender, bucket)
    sender.call("git", "commit", "--quiet", "--all", "--message", "remote")
    sender.call("dvc", "push", "--quiet")
    recorded.call("git", "clone", "--quiet", str(sender.folder), str(folder / "clone"))
    shutil.rmtree(sender.folder)
    receiver = Checkout(folder / "clone")
    connect(receiver, bucket)
    receiver.call("dvc", "pull", "--quiet")
    receiver.call("wsss", "adopt")
    yield receiver
    shutil.rmtree(receiver.folder, ignore_errors=True)


def test_a_clone_has_every_artifact_from_s3(clone: Checkout, recorded: Checkout) -> None:
    assert len(recorded.artifacts()) > 10
    assert clone.artifacts() == recorded.artifacts()


def test_a_clone_has_nothing_to_do_but_the_table(clone: Checkout, recorded: Checkout) -> None:
    assert clone.dry({}) == [set()]
    for name in TABLES:
        (clone.folder / name).unlink()
    assert ran(clone.snakemake()) == {"results", "all"}
    assert clone.artifacts(*TABLES) == recorded.artifacts(*TABLES)


def test_the_table_of_a_clone_is_the_same_by_the_command_alone(
    clone: Checkout, recorded: Checkout
) -> None:
    (clone.folder / "results/table.md").unlink()
    printed = clone.call(sys.executable, "-m", "wsss", "table").stdout
    assert (recorded.folder / "results/table.md").read_text().strip() == printed.strip()


def test_drawn_pictures_are_taken_from_the_cache_of_another_checkout(
    fresh: Checkout, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    target, pictures = "work/shapes/index.json", []
    for name in ("first", "second"):
        checkout = fresh.copy(tmp_path / name)
        call = ("snakemake", "--cores", "2", "--cache", "draw", "--", target)
        checkout.call("env", f"SNAKEMAKE_OUTPUT_CACHE={cache}", *call)
        pictures.append((checkout.folder / "work/shapes/images.zip").resolve())
        drawn = (checkout.folder / "logs/shapes/data.log").read_text()
        assert bool(drawn) == (name == "first"), "the second has nothing to draw"
    assert pictures[0] == pictures[1]
    assert pictures[0].parent == cache
