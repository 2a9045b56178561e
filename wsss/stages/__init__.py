"""One module per rule of the workflow: read artifacts, call the algorithms, write artifacts."""
