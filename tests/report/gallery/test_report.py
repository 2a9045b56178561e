"""The report of Snakemake in a real browser, over a dataset whose names are markup and scripts."""

from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import Checkout, fresh_checkout
from made_run import HOSTILE, make_dataset, make_run

from wsss.data.index import Index
from wsss.runs.run import WORK, planned_runs
from wsss.settings.resolve import load_params
from wsss.storage import archive

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement


@pytest.fixture(scope="module")
def report(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report by Snakemake over made artifacts; the results are the pipeline's own."""
    checkout: Checkout = fresh_checkout(tmp_path_factory.mktemp("report") / "repository")
    with chdir(checkout.folder):
        params = load_params([Path("params.yaml")])
        odd = tuple(replace(image, name=f'<b onclick="a">{image.name}') for image in squares.images)
        index = make_dataset(replace(squares, images=odd), "shapes", params, HOSTILE)
        for run in planned_runs(params):
            make_run(run, index)
        with archive.Writer(WORK / "shapes" / "images.zip"):
            pass  # the rule of the results wants it; these images lie elsewhere
    checkout.snakemake("results/table.html", "--allowed-rules", "results")  # nothing made anew
    checkout.snakemake("--report", "report.html", "--allowed-rules", "results")
    return checkout.folder / "report.html"


def shown(chrome: "Chrome", category: str, figure: str) -> None:
    """Open a figure of a category, as a reader does; it is in a frame or an image afterwards."""
    chrome.refresh()
    _visible(chrome, f"//a[normalize-space()='{category}']")[-1].click()
    row = _visible(chrome, f"//li[normalize-space()='{figure}'] | //tr[.='{figure}']")[-1]
    row.find_element("tag name", "a").click()


def _visible(chrome: "Chrome", path: str) -> "list[WebElement]":
    from selenium.webdriver.support.ui import WebDriverWait

    def found(_: object) -> "list[WebElement]":
        return [each for each in chrome.find_elements("xpath", path) if each.is_displayed()]

    return list(WebDriverWait(chrome, 20).until(found))


@pytest.mark.slow
def test_names_in_the_report_are_text_and_never_markup(report: Path, browser: "Chrome") -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    assert HOSTILE[0] in report.with_name("results").joinpath("classes.csv").read_text()
    browser.get(report.as_uri())
    for figure in ("classes", "curves", "losses"):
        shown(browser, "Results", figure)
        drawn = _visible(browser, "//img[not(contains(@src, 'logo'))]")[-1]
        WebDriverWait(browser, 20).until(lambda _, image=drawn: image.get_property("complete"))
        assert int(drawn.get_property("naturalWidth")) > 100, figure  # names kept it well formed
        assert not browser.find_elements("css selector", "[src=x], [onclick]")
    shown(browser, "Results", "table")
    browser.switch_to.frame(_visible(browser, "//iframe")[0])
    assert "true masks (upper bound)" in browser.find_element("tag name", "body").text
    browser.switch_to.default_content()
