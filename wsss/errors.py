"""Errors a user can act on: the command line prints them in one line and exits with code 2."""


def one_line(text: str) -> str:
    """Return text with what a terminal would act on, such as line ends, as visible escapes."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


class WsssError(Exception):
    """Something the user can mend; the message names the file or key and the way out."""


class ConfigError(WsssError):
    """The parameters are unknown, of the wrong type or impossible together."""


class DatasetError(WsssError):
    """The images, labels, masks or index files do not fit together."""


class CheckpointError(WsssError):
    """A weights file is damaged, hostile or of another network."""


class TrainingError(WsssError):
    """Training cannot go on, for example because the loss is not a number."""


class MissingError(WsssError):
    """A file or program that a stage needs is not there."""


class StorageError(WsssError):
    """The disk is full."""


class StaleError(WsssError):
    """A result was made with other parameters, code or inputs than the current ones."""
