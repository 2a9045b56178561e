"""The machine, GPUs and cluster that a process runs on."""
