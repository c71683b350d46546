"""How the HTML report behaves in a real browser: hover, sort, filter, keyboard, print, contrast, width and speed."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_pages import HOSTILE, measured, named, page_of
from sample_results import CLEAR_OF_CHANCE, SHARES, results_of

from safety_tax.core.rows import Kind
from safety_tax.results.report.page import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and HAS_PLAYWRIGHT), reason="wants a Chromium on the PATH, and `pip install '.[browser]'`"
    ),
]
LONG = "a" * 40
WIDE: dict[str, dict[Kind, float]] = {
    **{name: SHARES[name] for name in ("safety_donor", "ties", "worse")},
    LONG: SHARES["ties"] | {"harmful": 0.9, "benign": 0.88, "problem": 0.2, "instruction": 0.3},
}
WIDE = {"base": SHARES["base"] | CLEAR_OF_CHANCE, **WIDE}
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (...colours) => {
    canvas.globalAlpha = 1;
    canvas.fillStyle = "#fff";
    canvas.fillRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script, style, .hidden, .skip") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), behind = [];
    for (let of = element; of; of = of.parentElement) behind.unshift(getComputedStyle(of).backgroundColor);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [light(pixel(...behind)), light(pixel(...behind, ink))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05), size = parseFloat(style.fontSize);
    const big = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (big ? 3 : 4.5)) found[`${element.tagName}.${element.className}: ${text}`.slice(0, 80)] = ratio;
  }
  return found;
}"""
MARKS = """() => {
  const probe = document.body.appendChild(document.createElement("p"));
  const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  return Object.fromEntries(["page", "choose", "stands", "dominated", "base"].map((name) => [name, colour(name)]));
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield instance
        instance.close()


def opened(chromium: Any, folder: Path, html: str, width: int = 1000, scheme: str = "light") -> Any:
    """A page in the browser, drawn; any error of its scripts, or of its policy, fails the test."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("pageerror", lambda error: pytest.fail(f"the report's script failed: {error}"))
    page.on("console", lambda said: pytest.fail(f"the browser said: {said.text}") if said.type == "error" else None)
    page.set_default_timeout(120_000)
    page.goto(file.as_uri())
    page.locator("html[data-ready][data-drawn]").wait_for()  # not wait_for_function: the policy forbids its eval
    return page


# --- the picture


def test_a_mark_shows_its_numbers_to_the_mouse_and_the_keyboard(chromium: Any, tmp_path: Path) -> None:
    results = results_of(WIDE)
    page = opened(chromium, tmp_path, page_of(8, results))
    mark = page.locator(".picture path[aria-label^='ties,']").first
    mark.hover()
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    gain = results.variants["ties"].gain
    told = " ".join(tip.inner_text().split())
    assert "recipe ties" in told
    assert f"safety gained {100 * gain.value:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]" in told
    for title in ("standing", "change here", "tax here", "net benefit"):
        assert title in told
    page.mouse.move(0, 0)
    tip.wait_for(state="hidden")
    page.locator(".picture path[aria-label^='worse,']").first.focus()
    tip.wait_for()
    assert "recipe worse" in " ".join(tip.inner_text().split())
    page.keyboard.press("Tab")
    assert "recipe worse" not in " ".join(page.locator("#vg-tooltip-element").inner_text().split())
    page.close()


def test_a_mark_leads_to_the_items_that_its_recipe_changed_by_click_and_by_key(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(400))
    assert page.locator("#count").inner_text() == "400 of 400 items"
    page.locator(".picture path[aria-label^='ties,']").first.click()
    assert page.locator("#count").inner_text() == "200 of 400 items"
    assert page.evaluate("document.activeElement.id") == "list"
    page.uncheck("#flipped")
    page.locator(".picture path[aria-label^='ties,']").last.focus()
    page.keyboard.press("Enter")
    assert page.locator("#count").inner_text() == "200 of 400 items"
    page.uncheck("#flipped")
    page.locator("article button.browse").first.click()
    assert page.locator("#count").inner_text() == "200 of 400 items"
    page.close()


def test_pictures_fit_a_phone_after_it_is_turned(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(8, results_of(WIDE)), width=1280)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.locator(".picture path[tabindex='0']").count() == 4 * 4  # four recipes in four currencies
    assert page.locator(".picture svg").first.bounding_box()["width"] <= 390
    page.close()


# --- the table


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator("table.recipes tbody th code").all_inner_texts()]


def test_the_table_is_sorted_by_a_click_or_a_key_and_says_how(chromium: Any, tmp_path: Path) -> None:
    results = results_of(WIDE)
    page = opened(chromium, tmp_path, page_of(8, results))
    safety = {name: of.rates["safety"].value for name, of in results.variants.items()}
    head = page.locator("table.recipes thead th", has_text="safety")
    head.locator("button").click()
    assert [safety[name] for name in names(page)] == sorted(safety.values(), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert [safety[name] for name in names(page)] == sorted(safety.values())
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.locator("table.recipes thead th[aria-sort]").count() == 1
    page.locator("table.recipes thead th", has_text="recipe").locator("button").click()
    assert names(page) == sorted(WIDE)
    tax = page.locator("table.recipes thead th", has_text="helpfulness tax").locator("button")
    for _ in range(2):
        tax.click()
        assert names(page)[-2:] in (["base", "worse"], ["worse", "base"])  # without a tax, last either way
    page.close()


def test_losses_and_levels_are_shown_when_they_are_asked_for(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(8, results_of(WIDE)))
    extra = page.locator("table.recipes .extra").nth(1)
    assert not extra.is_visible()
    page.check(".show-more")
    assert extra.is_visible()
    page.close()


def test_prose_opens_by_the_keyboard(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(8))
    prose = page.locator("article.card details").first
    assert not prose.locator("p").is_visible()
    prose.locator("summary").focus()
    page.keyboard.press("Enter")
    assert prose.locator("p").is_visible()
    page.close()


def test_the_first_tab_skips_to_the_table(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(8))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#recipes"
    page.close()


# --- everything


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_and_all_text_has_contrast(
    chromium: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    several = render([measured(named(name, WIDE)) for name in ("one", "two")] + [measured(named("x"), "x")], [], [])
    for html in (page_of(40, results_of(WIDE)), several):
        page = opened(chromium, tmp_path, html, width, scheme)
        page.evaluate(
            "document.querySelectorAll('details, .recipes').forEach((of) => (of.open = true, of.classList.add('all')))"
        )
        if page.locator(".row").count():
            page.locator(".row").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == {}
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark is (scheme == "dark")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out_from_the_page(chromium: Any, tmp_path: Path, scheme: str) -> None:
    page = opened(chromium, tmp_path, page_of(4), scheme=scheme)
    colours = {name: [int(part) for part in rgb[4:-1].split(",")] for name, rgb in page.evaluate(MARKS).items()}
    ground = luminance(colours.pop("page"))
    for name, colour in colours.items():
        first, second = sorted((ground, luminance(colour)), reverse=True)
        assert (first + 0.05) / (second + 0.05) >= 3, name
    page.close()


def luminance(rgb: list[int]) -> float:
    """WCAG 2.1's relative luminance."""
    linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_printed_page_has_the_pictures_and_the_filtered_items_without_controls(
    chromium: Any, tmp_path: Path
) -> None:
    page = opened(chromium, tmp_path, page_of(40), scheme="dark")
    page.select_option("#kind", label="jailbreak")
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article.card details p").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == {}
    assert page.locator("#printed tr").count() == 11
    assert page.locator("#printed").is_visible() and page.locator(".picture svg").first.is_visible()
    assert page.locator("table.recipes .extra").first.is_visible()
    for control in ("#filters", "#list", ".show-more", "button.browse"):
        assert not page.locator(control).first.is_visible()
    assert "Prompt number" not in page.locator("#printed").inner_text()
    page.close()


# --- the items


def test_hostile_answers_are_shown_as_text(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(40))
    page.select_option("#kind", label="benign")
    page.locator(".row").first.click()
    shown = page.locator("#detail pre").nth(1).text_content()
    assert shown.startswith("</script><script>window.hacked = 1</script><img src=x")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#detail img, #detail script").count() == 0
    assert "by the rule “answer”; cut off at the token limit" in page.locator("#detail").inner_text()
    page.close()


def test_a_hostile_name_is_text_wherever_it_stands(chromium: Any, tmp_path: Path) -> None:
    name = HOSTILE.encode("ascii", "ignore").decode()
    results = results_of({"base": SHARES["base"], "ties": SHARES["ties"]})
    ties = results.variants["ties"].model_copy(update={"name": name})
    results = results.model_copy(update={"model": name, "variants": {"base": results.base, name: ties}})
    page = opened(chromium, tmp_path, page_of(8, results))
    page.locator(".picture path[aria-label*='hacked']").first.hover()
    page.locator("#vg-tooltip-element.visible").wait_for()
    assert "<img src=x" in page.locator("#vg-tooltip-element").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#vg-tooltip-element img, main script:not([type]), main img[src='x']").count() == 0
    page.close()


def test_items_are_filtered_searched_and_compared(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(400))

    def count() -> str:
        return str(page.locator("#count").inner_text())

    assert count() == "400 of 400 items"
    page.check("#flipped")
    assert count() == "200 of 400 items"
    page.select_option("#kind", label="choice")
    assert count() == "50 of 400 items"
    assert page.locator(".row b").first.inner_text() == "wrong → right"
    page.select_option("#label", label="wrong")
    assert count() == "0 of 400 items"
    for name in ("label", "kind"):
        page.select_option(f"#{name}", value="")
    page.select_option("#against", label="ties")
    assert count() == "0 of 400 items"  # none differs from itself
    page.select_option("#against", label="base")
    page.uncheck("#flipped")
    page.select_option("#group", label="g3")
    assert count() == "57 of 400 items"  # 3, 10, … 395
    page.select_option("#group", value="")
    page.select_option("#benchmark", label="b benign")
    assert count() == "100 of 400 items"
    page.select_option("#benchmark", value="")
    page.fill("#search", "NUMBER 399 OF")
    page.locator("#count", has_text="1 of 400 items").wait_for()
    page.locator(".row").first.click()
    assert "two <b>  ✓ the right answer" in page.locator("#detail .gold").text_content()
    page.fill("#search", "ties says something about 17.")
    page.locator(".row[data-item='17']").wait_for()
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#detail h4").all_inner_texts() == ["base", "ties"]
    assert "base says something about 17." in page.locator("#detail .pair > div").nth(0).inner_text()
    page.close()


def test_the_list_is_read_by_keys_alone(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(400))
    page.locator("#list").focus()
    for key, item in (("ArrowDown", 0), ("ArrowDown", 1), ("PageDown", 11), ("ArrowUp", 10), ("End", 399), ("Home", 0)):
        page.keyboard.press(key)
        chosen = page.locator(".row.chosen")
        assert chosen.get_attribute("data-item") == str(item)
        assert chosen.get_attribute("aria-selected") == "true"
        assert page.locator("#list").get_attribute("aria-activedescendant") == f"item-{item}"
    page.close()


def test_harmful_text_is_folded_until_it_is_asked_for(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(40))
    page.select_option("#kind", label="harmful")
    assert "Prompt number" not in page.locator("#list").inner_text()
    page.locator(".row").first.click()
    assert page.locator("#detail pre").count() == 3
    assert not any(page.locator("#detail pre").nth(n).is_visible() for n in range(3))
    page.locator("#detail summary").first.click()
    assert page.locator("#detail pre").first.is_visible()
    page.check("#unfold")
    assert "Prompt number 0" in page.locator("#list").inner_text()
    assert all(page.locator("#detail pre").nth(n).is_visible() for n in range(3))
    page.close()


def test_twenty_thousand_items_open_in_three_seconds(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, page_of(20_000))
    assert page.locator("#count").inner_text() == "20,000 of 20,000 items"
    assert page.locator(".row").count() < 60
    took = []  # ms since the page was asked for; the least of some openings, since others may want the processor, too
    for _ in range(5):
        took.append(
            int(
                page.evaluate(
                    "Math.max(document.documentElement.dataset.ready, document.documentElement.dataset.drawn)"
                )
            )
        )
        if took[-1] < 3000:
            break
        page.reload()
        page.locator("html[data-ready][data-drawn]").wait_for()
    assert min(took) < 3000, took
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.locator(".row[data-item='19999']").wait_for()
    page.close()
