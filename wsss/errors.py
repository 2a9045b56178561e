"""Errors that a user can fix: the command line prints one line and exits with code 2."""


def one_line(text: str) -> str:
    """Return text whose control characters, such as line ends, are visible escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class WsssError(Exception):
    """An error that the user can fix; the message names the file or key and says what to do."""


class ConfigError(WsssError):
    """Settings are unknown, of the wrong type, or contradict each other."""


class DatasetError(WsssError):
    """The images, labels, masks or index files do not fit together."""


class CheckpointError(WsssError):
    """A weights file is damaged, hostile, or belongs to another network."""


class TrainingError(WsssError):
    """Training cannot continue, for example because the loss is not a number."""


class DeviceMemoryError(WsssError):
    """The memory of the GPU does not suffice."""


class MissingError(WsssError):
    """A file or program that a stage needs does not exist."""


class StorageError(WsssError):
    """The disk is full."""


class StaleError(WsssError):
    """A result was made with settings, code or inputs that have changed since."""
