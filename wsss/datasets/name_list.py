"""Lists of image names: a text file with one name in each line."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from wsss.errors import DatasetError
from wsss.storage.content import refuse_pipe, stand_in

NAME = re.compile(r"[\w.+-]+")
SUFFIXES = (".jpg", ".jpeg", ".png")


def read_names(path: Path, advice: str) -> list[str]:
    """Return the names in a list, in its order. advice: what to do if the file cannot be read.

    Raises:
        DatasetError: the file is missing, or holds something else than names.
    """
    try:
        refuse_pipe(path)
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError):
        raise DatasetError(f"{path} cannot be read. {advice}") from None
    if kind := stand_in(content):
        raise DatasetError(f"{path} is {kind}.")
    names = text.split()
    for name in names:
        is_path = "/" in name or name.lower().endswith(SUFFIXES)
        if is_path:
            raise DatasetError(
                f"{path} lists paths, such as {name}, as psa's lists do, and not names. Write the "
                f"names alone, such as {PurePosixPath(name).stem}, one in each line."
            )
        if not NAME.fullmatch(name):
            raise DatasetError(
                f"{path} is not a list of image names (it has {name[:40]!r}). Write one name in each "
                "line, or take the official list."
            )
    return names
