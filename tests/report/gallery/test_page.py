"""The page of a gallery in a real browser, opened from disk: what a reader sees, presses and types."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from readers import PHONE, WIDTH, Reader, look

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PER_PAGE = 24


@pytest.fixture
def reader(browser: "Chrome", page: Path) -> Iterator[Reader]:
    """Yield someone who has just opened the page; at the end, nothing may have gone wrong."""
    look(browser, WIDTH)
    found = Reader(browser)
    found.said(), found.asked_for()
    browser.get(page.as_uri())
    yield found
    assert found.said() == []
    assert {address.partition(":")[0] for address in found.asked_for()} == {"file"}


def loaded(reader: Reader, number: int) -> bool:
    """Say whether all pictures of an image are there."""
    script = (
        "const images = [...document.querySelectorAll('article')[arguments[0]]"
        ".querySelectorAll('img')];"
        "return images.length > 0 && images.every(e => e.complete && e.naturalWidth > 0)"
    )
    return bool(reader.chrome.execute_script(script, number))


def wait_for(reader: Reader, number: int) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(reader.chrome, 20).until(lambda _: loaded(reader, number))


def test_every_stage_of_every_method_stands_between_image_and_truth(reader: Reader) -> None:
    assert reader.ask("document.title") == "Gallery of shapes"
    assert len(reader.names()) == PER_PAGE
    assert reader.captions() == [
        *["image", "CAM", "seed", "pseudo label", "truth"],
        *["CAM", "seed", "pseudo label"],
    ]
    reader.choose("split", "validation")
    assert reader.captions() == [
        "image",
        "CAM: prediction",
        *["ToCo: own decoder", "ToCo: prediction"],
        "true masks (upper bound): prediction",
        "truth",
    ]
    wait_for(reader, 0)


def test_names_are_text_and_never_markup(reader: Reader) -> None:
    names = reader.names()
    assert names[0] == "a \"b\" 'c' <i> #1 %20 é犬 train000"
    assert reader.ask("[...document.querySelectorAll('[src=x], i:not([style])')].length") == 0
    assert reader.ask("document.scripts.length") == 2
    options = reader.ask("[...document.getElementById('class').options].map(e => e.text)")
    assert options == [
        "all",
        "<img src=x onerror=alert(1)>",
        "</script><script>alert(2)</script>",
        '犬 "a" & b',
    ]
    reader.press("r")
    assert "<img src=x onerror=alert(1)>" in reader.ask("document.body.innerText")


def test_a_script_that_is_not_the_pages_own_does_not_run(reader: Reader) -> None:
    script = "const e = document.createElement('script'); e.textContent = 'window.evil = 1';"
    reader.chrome.execute_script(f"{script} document.body.append(e)")
    assert reader.ask("window.evil ?? null") is None
    reader.chrome.execute_script("new Image().src = 'http://127.0.0.1:9/x.png'")
    assert " ".join(reader.said()).count("Content Security Policy") == 2
    reader.chrome.refresh()


def test_filters_by_name_class_split_method_and_stage(reader: Reader) -> None:
    reader.press("/", "train01")
    assert [name[-8:] for name in reader.names()] == [f"train{n:03d}" for n in range(10, 20)]
    assert reader.ask("document.getElementById('count').innerText").startswith("10 of 30 images")
    reader.press("\ue00c", "\ue00c")  # Escape: leaves the field, then shows all
    assert reader.ask("document.getElementById('count').innerText").startswith("30 of 30 images")
    reader.choose("class", '犬 "a" & b')
    chips = reader.ask(
        "[...document.querySelectorAll('article')].map(e => [...e.querySelectorAll("
        "'.class:not(.false)')].map(c => c.innerText))"
    )
    assert chips
    assert all('犬 "a" & b' in each for each in chips)
    reader.choose("class", "all")
    reader.choose("split", "validation")
    assert len(reader.names()) == 6
    reader.tick("runs", "ToCo")
    assert reader.captions() == [
        "image",
        "CAM: prediction",
        "true masks (upper bound): prediction",
        "truth",
    ]
    reader.tick("runs", "true masks (upper bound)")
    reader.tick("columns", "truth")
    assert reader.captions() == ["image", "CAM: prediction"]


def test_an_empty_list_says_so(reader: Reader) -> None:
    reader.press("/", "no such image")
    assert reader.names() == []
    assert "No image fits" in reader.ask("document.getElementById('list').innerText")


def test_images_are_sorted_by_the_score_of_a_stage(reader: Reader) -> None:
    reader.tick("runs", "ToCo")
    reader.choose("score", "CAM: seed")
    reader.choose("sort", "IoU, worst first")
    worst = reader.ious("seed")
    assert worst == sorted(worst)
    assert worst[0] < worst[-1]
    reader.choose("sort", "IoU, best first")
    assert reader.ious("seed") == worst[::-1]
    reader.choose("sort", "boundary, most first")
    shares = reader.ask(
        "[...document.querySelectorAll('figcaption')].filter(e => e.innerText.startsWith('seed'))"
        ".map(e => Number(/boundary ([\\d.]+)/.exec(e.querySelector('[title]').title)[1]))"
    )
    assert shares == sorted(shares, reverse=True)
    reader.choose("score", "CAM: prediction")
    reader.choose("sort", "IoU, worst first")
    assert all("val" in name for name in reader.names()[:6])  # images without that score are last


def test_all_can_be_done_with_the_keys(reader: Reader) -> None:
    names = reader.names()
    reader.press("j")
    assert reader.focused() == names[0]
    reader.press("j", "\ue015")  # arrow down
    assert reader.focused() == names[2]
    assert reader.ask("getComputedStyle(document.activeElement).boxShadow") != "none"
    top = reader.ask("document.activeElement.getBoundingClientRect().top")
    assert 0 <= top < 200
    reader.press("k")
    assert reader.focused() == names[1]
    reader.press("n")
    assert len(reader.names()) == 6
    reader.press("k")
    assert reader.focused() == reader.names()[0]
    reader.press("k")  # over the edge of a page
    assert reader.focused() == names[-1]
    before = reader.captions()
    reader.press("3")
    assert reader.captions() == [caption for caption in before if caption != "seed"]
    reader.press("3", "z")
    assert reader.ask("document.getElementById('larger').getAttribute('aria-pressed')") == "true"
    reader.press("?")
    assert reader.ask("document.getElementById('help').open")
    reader.press("\ue00c")
    assert not reader.ask("document.getElementById('help').open")
    reader.press("r")
    assert reader.ask("document.getElementById('images').hidden")


def test_pictures_load_when_they_come_into_view(reader: Reader) -> None:
    wait_for(reader, 0)
    assert not loaded(reader, PER_PAGE - 1)
    reader.chrome.execute_script("document.querySelector('article:last-child').scrollIntoView()")
    wait_for(reader, PER_PAGE - 1)


def test_labels_lie_over_the_image_and_let_it_through(reader: Reader) -> None:
    wait_for(reader, 0)
    layers = reader.ask(
        "[...document.querySelectorAll('article:first-child .coloured')][0].querySelectorAll('img')"
        ".values().map(e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width,"
        " r.height, Number(getComputedStyle(e).opacity)] }).toArray()"
    )
    assert layers[0][:4] == layers[1][:4]
    assert [layer[4] for layer in layers] == [0.45, 0.7]


def test_runs_have_scores_curves_mistakes_and_confusions(reader: Reader) -> None:
    reader.press("r")
    text = reader.ask("document.getElementById('overview').innerText")
    for head in ("Scores", "Threshold curves", "Mistakes", "Confusion of classes", "random walk"):
        assert head in text
    assert reader.ask("document.querySelectorAll('polyline').length") == 4  # seed and walk, twice
    widths = reader.ask(
        "[...document.querySelectorAll('.bar')].map(b => [...b.children].map(e => "
        "e.getBoundingClientRect().width).reduce((x, y) => x + y) / b.getBoundingClientRect().width)"
    )
    wrong = [
        float(value)
        for value in reader.ask(
            "[...document.querySelectorAll('tr')].filter(e => e.querySelector('.bar'))"
            ".map(e => e.children[3].innerText)"
        )
    ]
    assert max(widths) == pytest.approx(1, abs=0.01)  # of a pixel's width
    for width, share in zip(widths, wrong, strict=True):
        assert width == pytest.approx(share / max(wrong), abs=0.02)  # shares have one digit
    rows = reader.ask(
        "[...document.querySelectorAll('.matrix tbody tr')].map(r => [...r.querySelectorAll('td')]"
        ".map(e => Number(e.innerText)).reduce((x, y) => x + y))"
    )
    assert rows == pytest.approx([100] * 4, abs=0.3)  # each number has one digit
    reader.tick("runs", "ToCo")
    assert reader.ask("document.querySelectorAll('polyline').length") == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDTH, PHONE])
def test_nothing_is_cut_off_and_text_stands_out(reader: Reader, width: int, scheme: str) -> None:
    look(reader.chrome, width, scheme)
    reader.chrome.refresh()
    for key in ("", "r"):
        reader.press(key)
        assert reader.ask("document.documentElement.scrollWidth") <= width
    colours = reader.ask(
        "['color', 'backgroundColor'].map(c => getComputedStyle(document.body)[c])"
        ".map(c => c.match(/\\d+/g).slice(0, 3).map(Number).reduce((x, y) => x + y) / 765)"
    )
    assert (colours[0] < colours[1]) == (scheme == "light")
    assert abs(colours[0] - colours[1]) > 0.6


def test_a_pressed_button_can_be_read_under_the_mouse(reader: Reader) -> None:
    reader.chrome.find_element("id", "view-runs").click()  # the mouse stays there
    assert reader.ask("document.getElementById('view-runs').matches(':hover')")
    colours = reader.ask(
        "['color', 'backgroundColor'].map(c => getComputedStyle(document.getElementById("
        "'view-runs'))[c]).map(c => c.match(/\\d+/g).slice(0, 3).map(Number).reduce((x, y) => x + y))"
    )
    assert abs(colours[0] - colours[1]) > 0.6 * 765


def test_every_control_has_a_name(reader: Reader) -> None:
    nameless = reader.ask(
        "[...document.querySelectorAll('input, select, button, dialog, section, form')].filter(e => "
        "!(e.innerText || e.ariaLabel || e.labels?.length || e.getAttribute('aria-labelledby'))).length"
    )
    assert nameless == 0
    assert reader.ask("[...document.images].every(e => e.hasAttribute('alt'))")
