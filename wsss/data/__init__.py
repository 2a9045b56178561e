"""Images, labels and masks: readers for each source, one index for all."""
