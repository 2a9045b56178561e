"""The page on the Python interface: its code runs, from top to bottom, in a folder that is not the study's."""

from pathlib import Path

import pytest
from pages import blocks


def test_the_code_of_the_page_runs(
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "study").symlink_to(study)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shown = blocks("docs/api.md", "python")
    assert len(shown) == 4
    names: dict[str, object] = {}
    for code in shown:
        exec(code, names)  # noqa: S102  # the page is ours
    assert capsys.readouterr().out.startswith("There is no CRF set 'pas'. The sets are psa, irn_")
    assert 0 <= float(names["miou"].max()) <= 1  # type: ignore[attr-defined]
