"""torchrun without its traceback: the processes of a training print their own errors."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Collection

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from wsss.progress import fail, setup


def main() -> None:
    """Run torchrun with the arguments of this process; exit with 2 if a process refused its work."""
    setup()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        end({rank: failure.exitcode for rank, failure in error.failures.items()})


def end(codes: dict[int, int]) -> None:
    """Exit as the processes did. codes: the exit code of each failed rank; negative: a signal."""
    if 2 in codes.values():
        sys.exit(2)
    signals = {rank: signal.Signals(-code).name for rank, code in codes.items() if code < 0}
    if len(signals) < len(codes):
        sys.exit(1)  # one of them has printed a traceback
    fail(_ended(signals))


def _ended(signals: dict[int, str]) -> str:
    parts: Collection[str] = [f"process {rank} by {name}" for rank, name in signals.items()]
    return (
        f"The training was ended from outside ({', '.join(parts)}). Memory may have been short: lower "
        "train.workers or batch. The same command goes on from the last saved state."
    )


if __name__ == "__main__":
    main()
