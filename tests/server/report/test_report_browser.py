"""The report opened from disk in headless Chromium, the network closed: it draws, and asks for nothing."""

import functools
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.made_report import make_run, page_of
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"
)


@dataclass
class Opened:
    """A page in the browser, and what went on in it."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def canvas(self) -> np.ndarray:
        """The pixels of the viewer."""
        shot = self.page.locator("#viewer-canvas").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Pages of a flat study and of one of volumes, on disk."""
    folder, sizes = tmp_path_factory.mktemp("pages"), {"flat": "[32, 32]", "volumes": "[16, 32, 32]"}
    for name, size in sizes.items():
        html, _ = page_of(make_run(folder / f"run-{name}", size=size))
        (folder / f"{name}.html").write_text(html)
    return {name: folder / f"{name}.html" for name in sizes}


def opened(browser: Any, file: Path, **options: Any) -> Opened:
    """Open a page with everything but files refused, and wait for its viewer."""
    context = browser.new_context(**{"viewport": {"width": 390, "height": 844}} | options)
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    found.page.on("pageerror", lambda error: found.said.append(f"error: {error}"))
    found.page.on("request", lambda request: found.asked.append(request.url))
    context.route("**/*", lambda route: route.continue_() if _own(route.request.url) else route.abort())
    found.page.goto(file.as_uri())
    found.page.wait_for_selector("html[data-viewer=ready]", timeout=60_000)
    return found


def _own(url: str) -> bool:
    return url.startswith(("file:", "data:"))


@pytest.mark.parametrize("name", ["flat", "volumes"])
def test_it_draws_without_a_word_in_the_console_or_a_request(browser, files, name):
    found = opened(browser, files[name])
    assert found.said == []
    assert [url for url in found.asked if not url.startswith("data:")] == [files[name].as_uri()]
    assert found.canvas().std() > 5
    found.page.context.close()


def test_the_label_the_view_and_the_slice_can_be_chosen(browser, files):
    found = opened(browser, files["flat"])
    marked = found.canvas()
    colour = marked.max(axis=2) - marked.min(axis=2)
    found.page.uncheck("#viewer-label")
    plain = found.canvas()
    assert colour.max() > 60
    assert (plain.max(axis=2) - plain.min(axis=2)).max() < 20, "grey without its label"
    assert found.page.inner_text("#viewer-told") == "Slice 8 of 16: synthetic patch 8."
    found.page.focus("#viewer-slice")
    found.page.keyboard.press("ArrowRight")
    assert found.page.inner_text("#viewer-told") == "Slice 9 of 16: synthetic patch 9."
    assert not np.array_equal(found.canvas(), plain)
    found.page.select_option("#viewer-view", "planes")
    assert found.canvas().std() > 5
    assert found.said == []
    found.page.context.close()


def test_another_volume_can_be_chosen(browser, files):
    found = opened(browser, files["volumes"])
    first = found.canvas()
    found.page.select_option("#viewer-volume", "1")
    found.page.get_by_text("Synthetic patch 2, one volume").wait_for()
    assert not np.array_equal(found.canvas(), first)
    assert found.said == []
    found.page.context.close()


@pytest.fixture(scope="module")
def chosen_slowly(browser, files) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """The pixels of a volume that was chosen with nothing else going on: with its label, and without."""

    @functools.cache
    def pixels(volume: int) -> tuple[np.ndarray, np.ndarray]:
        found = opened(browser, files["volumes"])
        found.page.select_option("#viewer-volume", str(volume))
        found.page.get_by_text(f"Synthetic patch {volume + 1}, one volume").wait_for()
        marked = found.canvas()
        found.page.uncheck("#viewer-label")
        plain = found.canvas()
        found.page.context.close()
        return marked, plain

    return pixels


# Reading takes turns of 5 to 80 ms, the first the longest, so that wishes would overtake one another.
SLOW_READER = """() => {
  const turns = [80, 60, 5, 40, 10, 30, 5, 20];
  const read = niivue.NVImage.loadFromUrl.bind(niivue.NVImage);
  niivue.NVImage.loadFromUrl = async (told) => {
    await new Promise((go) => setTimeout(go, turns.shift() ?? 5));
    return read(told);
  };
}"""
DOWN, UP = "ArrowDown", "ArrowUp"


@pytest.mark.parametrize(
    ("keys", "volume", "pause_ms", "reader"),
    [
        ((DOWN, DOWN), 2, 20, None),
        ((DOWN, DOWN), 2, 60, SLOW_READER),
        ((DOWN, DOWN, UP, UP), 0, 20, None),
        ((DOWN, DOWN, UP, UP), 0, 0, SLOW_READER),
    ],
)
def test_of_volumes_chosen_in_quick_succession_the_last_is_shown(
    browser, files, chosen_slowly, keys, volume, pause_ms, reader
):
    found = opened(browser, files["volumes"])
    if reader:
        found.page.evaluate(reader)
    found.page.focus("#viewer-volume")
    for key in keys:
        found.page.keyboard.press(key)
        found.page.wait_for_timeout(pause_ms)
    found.page.wait_for_selector("#viewer-frame[aria-busy=false]")
    found.page.wait_for_timeout(200)
    marked, plain = chosen_slowly(volume)
    assert found.page.input_value("#viewer-volume") == str(volume)
    assert found.page.inner_text("#viewer-told").startswith(f"Synthetic patch {volume + 1}, one volume")
    assert (found.canvas() != marked).mean() < 0.001
    found.page.uncheck("#viewer-label")
    assert (found.canvas() != plain).mean() < 0.001
    assert (marked != plain).mean() > 0.001
    assert found.said == []
    found.page.context.close()


def test_a_fault_after_the_start_is_told_on_the_page(browser, files):
    found = opened(browser, files["volumes"])
    found.page.evaluate(
        "() => { niivue.NVImage.loadFromUrl = async () => { throw new Error('a damaged volume'); }; }"
    )
    found.page.select_option("#viewer-volume", "1")
    found.page.wait_for_selector("#viewer-failed:not([hidden])")
    assert found.page.inner_text("#viewer-failed").startswith("The viewer stopped (a damaged volume).")
    assert not found.page.is_visible("#viewer-box")
    assert found.said == [], "no rejection that nobody handles"
    found.page.context.close()


def test_a_volume_is_first_shown_on_its_label_and_long_tables_are_folded(browser, files):
    found = opened(browser, files["volumes"])
    marked = found.canvas()
    assert (marked.max(axis=2) - marked.min(axis=2) > 60).mean() > 0.001, "orange is in sight"
    assert found.page.evaluate("[...document.querySelectorAll('details')].map((one) => one.open)") == [
        True,  # three rounds of the ledger
        True,  # and what happened in them
        False,  # the model card
        False,  # the viewer's licence
    ]
    found.page.context.close()


def test_many_rounds_are_folded_and_a_table_of_sentences_is_stacked_on_a_phone(browser, tmp_path):
    html, _ = page_of(make_run(tmp_path / "run", rounds=13))
    (tmp_path / "page.html").write_text(html)
    found = opened(browser, tmp_path / "page.html")
    assert not found.page.is_visible("#ledger")
    found.page.get_by_text("The ledger, 13 rounds").click()
    assert found.page.is_visible("#ledger")
    cells = found.page.locator("#sites tbody tr").first.locator("th, td")
    name, sentence = (cells.nth(at).bounding_box() for at in range(2))
    assert sentence["y"] >= name["y"] + name["height"] - 1, "below the name, not beside it"
    assert sentence["x"] + sentence["width"] <= 390
    found.page.context.close()


def test_on_paper_nothing_is_folded_cut_or_dark(browser, tmp_path):
    html, _ = page_of(make_run(tmp_path / "run", rounds=13))
    (tmp_path / "page.html").write_text(html)
    found = opened(browser, tmp_path / "page.html", color_scheme="dark")
    folded = {
        "#ledger tbody tr:last-child": "14.43",  # 13 rounds of 1.11
        "#table-rounds tbody tr:last-child": "south 0.5",
        "#card tbody tr:last-child": "epsilon 1.50",
        "footer pre": "BSD 2-Clause License",
    }
    assert not [place for place in folded if found.page.is_visible(place)]
    found.page.emulate_media(media="print", color_scheme="dark")
    for place, words in folded.items():
        assert found.page.is_visible(place)
        assert words in found.page.inner_text(place)
    heights = [
        found.page.locator(f"{one}:has(details)").bounding_box()["height"] for one in ("#privacy", "#rounds")
    ]
    assert min(heights) > 13 * 20, "thirteen lines of a table take their room"
    assert found.page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 37, 48)"
    assert found.page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    found.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["flat", "volumes"])
def test_it_fits_its_screen_and_axe_finds_nothing_serious(browser, files, name, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    found = opened(
        browser,
        files[name],
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        bypass_csp=True,  # for axe, which is put into the page
    )
    found.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    back = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 200) == (scheme == "dark")
    faults = Axe().run(found.page).response["violations"]
    told = [(one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]]) for one in faults]
    assert [one for one in told if one[1] in ("serious", "critical", "moderate")] == []
    found.page.context.close()


def test_without_webgl_the_page_says_so(browser, files):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "HTMLCanvasElement.prototype.getContext = function () { return null; };"  # as browsers without it do
    )
    page.goto(files["flat"].as_uri())
    page.wait_for_selector("#viewer-failed:not([hidden])")
    assert "lacks WebGL 2" in page.inner_text("#viewer-failed")
    assert not page.is_visible("#viewer-box")
    context.close()


def test_without_scripts_all_but_the_viewer_is_there(browser, files):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["flat"].as_uri())
    words = page.inner_text("body")
    for part in (
        "What it cost in privacy",
        "epsilon 3.33 at delta 0.0001",
        "What not to conclude",
        "needs scripts",
    ):
        assert part in words
    context.close()
