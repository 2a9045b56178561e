"""Images, labels and masks."""
