"""Which runs there are, and what each stage depends on."""
