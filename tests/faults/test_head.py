"""The head of a run refuses hostile settings before any job."""

from pathlib import Path

import pytest
from checkout import fresh_checkout


@pytest.mark.slow
def test_the_head_of_a_run_takes_no_settings_with_a_key_twice(tmp_path: Path, tried: None) -> None:
    checkout = fresh_checkout(tmp_path / "repository")
    settings = checkout.folder / "params.yaml"
    settings.write_text(settings.read_text() + "\nseeds: [3]\n")
    said = checkout.snakemake("--dry-run", status=1)
    assert "the key 'seeds' is there twice" in said
    assert not (checkout.folder / "work").exists()
