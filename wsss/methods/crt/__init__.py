"""CRT, with its localization."""
