"""Runs, their stages, and what each stage depends on."""
