"""Put the shards of an inference stage into one archive and write its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wsss.progress import log
from wsss.runs.record import Recorder
from wsss.runs.run import Run, shard_path
from wsss.runs.sources import source_files, verify_sources
from wsss.storage import archive

Shard = tuple[int, int]  # (k, n): part k of n, from 1
WHOLE: Shard = (1, 1)


def gather(run: Run, stage: str) -> None:
    """Put the shards of `cam` (or `cam-pc`), `decode`, `walk`, `instances` or `masks` together.

    The archive does not depend on the number of shards. Without any shard an archive is left as it is.
    """
    verify_sources(run, stage)
    count, target = run.params.shards, run.path(f"{stage}.zip")
    shards = [shard_path(run, stage, (number, count)) for number in range(1, count + 1)]
    if target.is_file() and not any(shard.is_file() for shard in shards):
        log.info("%s was written at once: there are no shards of it", target)
        return
    with whole_archive(run, stage) as writer:
        archive.join(shards, writer)


@contextmanager
def whole_archive(run: Run, stage: str) -> Iterator[archive.Writer]:
    """Yield the writer of the archive of a stage; its record is written after it."""
    record = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
    target = run.path(f"{stage}.zip")
    with archive.Writer(target) as writer:
        yield writer
    record.write(run.path(f"{stage}.json"), source_files(run, stage), [target])


@contextmanager
def shard_writer(run: Run, stage: str, shard: Shard | None) -> Iterator[archive.Writer]:
    """Yield the writer of a shard of a stage; None: of the whole archive, as `gather` writes it."""
    if shard is None:
        with whole_archive(run, stage) as writer:
            yield writer
    else:
        with archive.Writer(shard_path(run, stage, shard)) as writer:
            yield writer
