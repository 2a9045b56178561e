"""Someone who reads a page in a real browser, opened from disk."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WIDTH, HEIGHT, PHONE = 1300, 900, 390


class Reader:
    """Someone who looks at the page."""

    def __init__(self, chrome: "Chrome") -> None:
        self.chrome = chrome

    def ask(self, expression: str, *arguments: Any) -> Any:
        """Return what an expression of JavaScript is; waits where it is a promise."""
        return self.chrome.execute_script(f"return {expression}", *arguments)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.chrome, duration=0).send_keys(*keys).perform()

    def choose(self, name: str, option: str) -> None:
        """Choose an option of a list by what it is called."""
        from selenium.webdriver.support.ui import Select

        Select(self.chrome.find_element("id", name)).select_by_visible_text(option)

    def tick(self, group: str, name: str) -> None:
        """Tick a box, or take its tick away."""
        boxes = self.chrome.find_elements("css selector", f"#{group} label")
        next(box for box in boxes if box.text == name).click()

    def names(self) -> list[str]:
        """Return the images on this page of the list."""
        return list(
            self.ask(
                "[...document.querySelectorAll('h3 > span:first-child')].map(e => e.innerText)"
            )
        )

    def captions(self, number: int = 0) -> list[str]:
        """Return what is written below the pictures of an image."""
        return list(
            self.ask(
                "[...document.querySelectorAll('article')[arguments[0]]"
                ".querySelectorAll('figcaption span:first-child')].map(e => e.innerText)",
                number,
            )
        )

    def ious(self, stage: str) -> list[float]:
        """Return the IoU of a stage of every image on this page that has it."""
        return [
            float(value)
            for value in self.ask(
                "[...document.querySelectorAll('figcaption')].filter(e => e.innerText.startsWith("
                "arguments[0])).map(e => e.querySelector('b').innerText)",
                stage,
            )
        ]

    def focused(self) -> str | None:
        """Return the image that has the focus."""
        found = self.ask("document.activeElement.getAttribute('aria-label')")
        return None if found is None else str(found)

    def said(self) -> list[str]:
        """Return the messages of the browser since the last time."""
        return [str(line["message"]) for line in self.chrome.get_log("browser")]

    def asked_for(self) -> list[str]:
        """Return the addresses that the page was allowed to ask for since the last time."""
        lines = [
            json.loads(line["message"])["message"] for line in self.chrome.get_log("performance")
        ]
        refused = {
            line["params"]["requestId"]
            for line in lines
            if line["params"].get("blockedReason") == "csp"
        }
        sent = [line["params"] for line in lines if line["method"] == "Network.requestWillBeSent"]
        return [str(each["request"]["url"]) for each in sent if each["requestId"] not in refused]


def look(browser: "Chrome", width: int, scheme: str = "light") -> None:
    """Set the width of the window and the colours that the reader prefers."""
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
