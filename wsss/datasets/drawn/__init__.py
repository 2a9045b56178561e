"""Pictures that the package draws."""
