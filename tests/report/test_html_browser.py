"""The page in a real browser: it opens cleanly, its tooltips show, hostile text stays text, it fits every screen."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.sample_report import HOSTILE, hostile_result, sample_result
from promptreach.report.html import render_html
from promptreach.report.result import TuningVerdict

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason=f"needs {CHROMIUM} and {CHROMEDRIVER}"
)

READABLE = 4.5  # WCAG 2.2, success criterion 1.4.3 (AA): contrast of text of normal size
PHONE = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}


class Browser:
    """A headless Chromium with the few verbs that the tests use."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for switch in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1280,900",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{switch}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))

    def open(self, page: Path) -> None:
        # A window of no screen may never be the focused one; without focus no figure tells anything.
        self.command("Emulation.setFocusEmulationEnabled", enabled=True)
        self.driver.get(page.as_uri())

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def emulate(self, scheme: str = "light", media: str = "") -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", media=media, features=[feature])

    def reset(self) -> None:
        self.emulate()
        self.command("Emulation.clearDeviceMetricsOverride")
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)

    def tooltip(self) -> str:
        return str(self.run("const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent"))


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    shared_browser.reset()
    return shared_browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    results = {
        "sample": sample_result(),
        "hostile": hostile_result(),
        "large": sample_result(TuningVerdict.FITS, 32, 32, 6),
        **{verdict.value: sample_result(verdict, 2, 2) for verdict in TuningVerdict},
    }
    written = {}
    for name, result in results.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(render_html(result), encoding="utf-8")
    return written


@pytest.mark.parametrize("name", ["sample", "hostile", "large"])
def test_opens_without_a_message_or_a_request(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert browser.driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert pages[name].as_uri() in sent
    assert [url for url in sent if url != pages[name].as_uri() and not url.startswith("data:")] == []


def test_the_log_would_show_a_failure(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>missing()</script><img src='missing.png'>")
    browser.open(page)
    assert len(browser.driver.get_log("browser")) == 2


# Tooltips


def test_heatmap_tooltip_shows_under_the_pointer(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    assert browser.tooltip() == ""
    cell = browser.find("svg.heat .row:nth-of-type(4) rect:nth-of-type(8)")
    ActionChains(browser.driver).move_to_element(cell).perform()
    assert re.fullmatch(r"layer 3, head 7: 0\.\d+ of attention", browser.tooltip())
    place, room = browser.run(
        "const box = document.getElementById('tip').getBoundingClientRect();"
        "return [[box.left, box.top, box.right, box.bottom], [innerWidth, innerHeight]]"
    )
    assert 0 <= place[0] < place[2] <= room[0]
    assert 0 <= place[1] < place[3] <= room[1]
    ActionChains(browser.driver).move_to_element(browser.find("h1")).perform()
    assert browser.tooltip() == ""


def test_heatmap_tooltip_follows_the_arrow_keys(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    browser.run("document.querySelector('svg.heat').focus({focusVisible: true})")
    keys = {
        "": "layer 0, head 0",
        Keys.ARROW_RIGHT: "layer 0, head 1",
        Keys.ARROW_DOWN: "layer 1, head 1",
        Keys.END: "layer 1, head 8",
        Keys.ARROW_RIGHT + Keys.ARROW_RIGHT: "layer 1, head 8",
        Keys.ARROW_UP + Keys.ARROW_UP: "layer 0, head 8",
        Keys.HOME + Keys.ARROW_DOWN * 40: "layer 29, head 0: no value",
    }
    for pressed, place in keys.items():
        ActionChains(browser.driver).send_keys(pressed).perform()
        assert browser.tooltip().startswith(place)
    assert browser.run("return document.querySelectorAll('.on').length") == 1
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    assert browser.tooltip() == ""


def test_the_tab_key_reaches_the_figures(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    browser.run("document.querySelector('#methods .scroll').focus()")
    for _ in range(20):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        if browser.run("return document.activeElement.matches('svg.curve')"):
            break
    assert browser.tooltip() == "prompt tuning: 0.521 accuracy at 1 virtual tokens"


def test_curve_tooltip_shows_on_a_tap(browser: Browser, pages: dict[str, Path]) -> None:
    browser.command("Emulation.setDeviceMetricsOverride", **PHONE)
    browser.open(pages["sample"])
    point = browser.find("svg.curve .row.s1 circle:nth-of-type(3)")
    x, y = browser.run(
        "arguments[0].scrollIntoView({block: 'center'}); const box = arguments[0].getBoundingClientRect();"
        "return [box.left + box.width / 2, box.top + box.height / 2]",
        point,
    )
    browser.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert browser.tooltip() == "prefix tuning: 0.602 accuracy at 4 virtual tokens"


# Text from a dataset


def test_hostile_text_stays_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    assert browser.run("return [document.scripts.length, document.images.length]") == [1, 0]
    shown = {
        "title": "document.title",
        "headline": "document.querySelector('h1').textContent",
        "advice": "document.querySelector('.advice').textContent",
        "code": "document.querySelector('.code.shell code').textContent",
        "code title": "document.querySelector('.code.shell figcaption').textContent",
        "copy button": "document.querySelector('.code.shell button').getAttribute('aria-label')",
        "table cell": "document.querySelector('tbody td').textContent",
        "table heading": "document.querySelector('thead th').textContent",
        "summary": "document.querySelector('.finding > p:nth-of-type(2)').textContent",
        "folded table": "document.querySelector('summary bdi').textContent",
        "reason": "document.querySelector('.reasons span[dir]').textContent",
        "figure title": "document.querySelector('.plot figcaption').textContent",
        "heatmap label": "document.querySelector('svg.heat').getAttribute('aria-label')",
        "axis": "document.querySelector('svg.curve .axis').textContent",
        "legend": "document.querySelector('ul.legend bdi').textContent",
        "environment": "document.querySelector('.facts:last-of-type dd').textContent",
        "skipped": "document.querySelector('.not-asked dd').textContent",
    }
    # Trimmed, as browsers trim a page's title.
    missing = [name for name, script in shown.items() if HOSTILE.strip() not in browser.run(f"return {script}")]
    assert missing == []
    ActionChains(browser.driver).move_to_element(browser.find("svg.heat rect")).perform()
    assert HOSTILE in browser.tooltip()
    assert browser.run("return document.getElementById('tip').children.length") == 0


def test_code_that_slips_in_does_not_run(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    inserted = "<img src='data:,' onerror='window.owned = 1'><svg onload='window.owned = 1'></svg>"
    browser.run(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(inserted)})")
    browser.run("return new Promise((done) => setTimeout(done, 100))")
    assert browser.run("return window.owned === undefined")
    assert "Content Security Policy" in str(browser.driver.get_log("browser"))


# Screens, colours and paper


@pytest.mark.parametrize("name", ["sample", "hostile", "large"])
def test_fits_a_phone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.command("Emulation.setDeviceMetricsOverride", **PHONE)
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    assert browser.run("return innerWidth") == PHONE["width"]
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE["width"]


def _luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` as WCAG 2.2 defines it."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    low, high = sorted([_luminance(first), _luminance(second)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_known_colours() -> None:
    assert _contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == 21.0
    assert _contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") > READABLE
    assert _contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") < READABLE


_TEXT_COLOURS = """
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || element.matches("script")) continue;
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(element);
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)" && behind.parentElement)
      behind = behind.parentElement;
    found.push([element.textContent.slice(0, 40), element.matches("svg text") ? style.fill : style.color,
      getComputedStyle(behind).backgroundColor]);
  }
  return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["sample", *(verdict.value for verdict in TuningVerdict)])
def test_all_text_has_contrast(browser: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    browser.emulate(scheme)
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    browser.run("document.querySelector('svg.heat').focus({focusVisible: true})")
    found = browser.run(_TEXT_COLOURS)
    assert len(found) > 100
    assert any(text.startswith("layer 0, head 0") for text, _, _ in found)
    assert [entry for entry in found if _contrast(entry[1], entry[2]) < READABLE] == []


def _background(browser: Browser) -> float:
    return _luminance(browser.run("return getComputedStyle(document.documentElement).backgroundColor"))


def test_the_dark_is_dark_and_paper_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    assert _background(browser) > 0.9
    browser.emulate("dark")
    assert _background(browser) < 0.02
    browser.emulate("dark", media="print")
    assert _background(browser) > 0.9


def test_the_scale_runs_one_way_in_both_schemes(browser: Browser, pages: dict[str, Path]) -> None:
    for scheme, is_rising in [("light", False), ("dark", True)]:
        browser.emulate(scheme)
        browser.open(pages["sample"])
        fills = browser.run(
            "return [...document.querySelector('.scale').querySelectorAll('rect')].map((x) => getComputedStyle(x).fill)"
        )
        steps = [_luminance(fill) for fill in fills]
        assert len(set(steps)) == 10
        assert steps == sorted(steps, reverse=not is_rising)


def test_printing_unfolds_and_folds_again(browser: Browser, pages: dict[str, Path]) -> None:
    folded = "return document.querySelectorAll('details:not([open])').length"
    buttons = "return [...document.querySelectorAll('button')].filter((button) => button.checkVisibility()).length"
    browser.open(pages["sample"])
    assert browser.run(folded) == 2
    assert browser.run(buttons) == 3
    browser.emulate(media="print")
    browser.run("return new Promise((done) => setTimeout(done, 100))")
    assert browser.run(folded) == 0
    assert browser.run(buttons) == 0
    browser.emulate()
    browser.run("return new Promise((done) => setTimeout(done, 100))")
    assert browser.run(folded) == 2


def test_the_copy_button_copies(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"])
    browser.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    button = browser.find(".code.shell button")
    button.click()
    browser.run("return new Promise((done) => setTimeout(done, 100))")
    assert button.text == "Copied"
    copied = browser.run("return navigator.clipboard.readText()")
    assert copied == browser.run("return document.querySelector('.code.shell code').textContent")
    assert copied.startswith("promptreach audit ")
