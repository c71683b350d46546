"""The HTML report: what is in it, and how it behaves in a real browser."""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from sample_results import SHARES, results_of

from safety_tax.commands.report import FIGURES, is_lower_bound, read_figures, report
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import LABELS, NOTHING, VERDICT, Kind, Prompt, Response, Verdict, write_rows
from safety_tax.params import load_params
from safety_tax.results.figures.reading import DRAWN
from safety_tax.results.report.items import item_index, outcome, text_chunks
from safety_tax.results.report.markdown import as_html
from safety_tax.results.report.page import embedded, render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
browser_wanted = pytest.mark.skipif(
    not (CHROMIUM and HAS_PLAYWRIGHT), reason="wants a Chromium on the PATH, and `pip install '.[browser]'`"
)
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \u2028 \ud800 ünder"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><circle r="4" cx="5" cy="5"/></svg>'
WORDS = (
    "# tiny, quick <size>\n\n| variant | status |\n| --- | --- |\n| `ties` | no_gain |\n\n**`ties`: no_gain.** No.\n"
)
RECIPES = {"ties": {"method": "ties", "donors": {"<safety>": 1.0}, "density": 0.5}}
Parts = tuple[list[Prompt], dict[str, list[Verdict]], dict[str, list[Response]]]


def run_of(items: int) -> Parts:
    """A base that complies throughout, a recipe that refuses every second prompt; every fourth item is a question."""
    prompts: list[Prompt] = []
    verdicts: dict[str, list[Verdict]] = {"base": [], "ties": []}
    responses: dict[str, list[Response]] = {"base": [], "ties": []}
    for i in range(items):
        kind = ("harmful", "benign", "jailbreak", "choice")[i % 4]
        about: dict[str, Any] = {"id": f"i{i}", "benchmark": f"b_{kind}", "kind": kind, "group": f"g{i % 7}"}
        question = {"choices": ["one", "two <b>"], "gold": 1} if kind == "choice" else {}
        text = f"Prompt number {i} of a report, with words enough to look like one. " * 3
        prompts.append(Prompt.model_validate({**about, **question, "split": "eval", "text": text}))
        for name in verdicts:
            refused = name == "ties" and i % 8 < 4
            if kind == "choice":
                judged: dict[str, Any] = {"continuation_correct": refused, "gold_probability": 0.5, "options": 2}
            else:
                judged = {"label": "refuse" if refused else "comply", "rule": "declines" if refused else "answer"}
                judged["truncated"] = i == 1
                answer = HOSTILE if i == 1 else f"{name} says something about {i}. " * 8
                responses[name].append(Response(id=f"i{i}", text=answer, finish_reason="stop", tokens=9))
            verdicts[name].append(VERDICT.validate_python({**about, **judged}))
    return prompts, verdicts, responses


def page_of(items: int, lower_bound: bool = True) -> str:
    prompts, verdicts, responses = run_of(items)
    index = item_index(prompts, verdicts, "continuation")
    return render("tiny", WORDS, RECIPES, {"frontier": SVG}, index, text_chunks(prompts, responses), lower_bound)


def test_no_model_output_can_close_the_script_that_holds_it() -> None:
    text = embedded({"text": HOSTILE})
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {"text": HOSTILE}


def test_the_page_asks_the_network_for_nothing() -> None:
    page = page_of(40)
    assert "default-src 'none'" in page
    sources: list[str] = []

    class Sources(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            sources.extend(value or "" for name, value in attrs if name in ("src", "href", "action", "srcset"))

    Sources().feed(page)
    assert len(sources) == 1 and sources[0].startswith("data:")
    assert page.count("<script>") == 1  # the report's own
    page.encode("utf-8")  # lone surrogates are JSON escapes


def test_words_become_html_with_nothing_unescaped() -> None:
    html = as_html(WORDS)
    assert "<h1>tiny, quick &lt;size&gt;</h1>" in html
    assert "<tr><td><code>ties</code></td><td>no_gain</td></tr>" in html
    assert "<p><b><code>ties</code>: no_gain.</b> No.</p>" in html
    words = (ROOT / "metrics/smollm2_135m.md").read_text(encoding="utf-8")
    committed = as_html(words)
    assert committed.count("<tr>") == words.count("\n|") - words.count("\n| ---") > 1
    assert "**" not in committed and "`" not in committed


def test_the_page_says_what_each_variant_is() -> None:
    page = page_of(4)
    assert "<td><code>ties</code></td><td>method: ties, donors: {&lt;safety&gt;: 1.0}, density: 0.5</td>" in page


def test_figures_come_in_the_order_of_a_readers_questions(tmp_path: Path) -> None:
    assert tuple(DRAWN) == FIGURES
    for name in ("a_new_one", *sorted(FIGURES)):
        (tmp_path / f"{name}.svg").write_bytes(SVG)
    assert list(read_figures(tmp_path)) == [name.replace("_", " ") for name in (*FIGURES, "a_new_one")]


def test_a_question_is_right_or_wrong_in_the_models_own_format() -> None:
    prompt = Prompt(
        id="choice", benchmark="b", kind="choice", group="g", split="eval", text="?", choices=["a", "b"], gold=0
    )
    verdict = judged("choice", letter_correct=True, continuation_correct=False, gold_probability=0.5, options=2)
    for form, expected in (("letter", "right"), ("continuation", "wrong")):
        index = item_index([prompt], {"base": [verdict]}, form)
        assert index["labels"][index["label"]["base"][0]] == expected


def item(kind: Kind, **keys: Any) -> Prompt:
    return Prompt.model_validate(
        {"id": kind, "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": "?"} | keys
    )


def judged(kind: Kind, **keys: Any) -> Verdict:
    cut = {} if kind == "choice" else {"truncated": False}
    return VERDICT.validate_python({"id": kind, "benchmark": "b", "kind": kind, "group": "g"} | cut | keys)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (judged("problem", answer_correct=True, marked_correct=False), "right"),
        (judged("problem", answer_correct=False, marked_correct=False), "wrong"),
        (judged("instruction", followed=True, followed_loosely=True), "followed"),
        (judged("instruction", followed=False, followed_loosely=True), "not followed"),
        (judged("harmful", label="unfinished", truncated=True), "unfinished"),
        (judged("benign", label="unjudged"), "unjudged"),
    ],
)
def test_every_kind_has_its_outcome(verdict: Verdict, expected: str) -> None:
    assert outcome(verdict, "continuation") == expected


def test_a_question_without_scores_in_the_models_format_is_refused() -> None:
    verdict = judged("choice", letter_correct=True, gold_probability=0.5, options=2)
    with pytest.raises(PipelineError, match=r"choice item choice in the format continuation, found nothing.*dvc repro"):
        outcome(verdict, "continuation")


def test_a_loop_is_marked_whatever_the_label() -> None:
    verdicts = [judged("harmful", label="refuse", looped=True), judged("benign", label="comply", looped=False)]
    index = item_index([item("harmful"), item("benign", answer="Gladly.")], {"base": verdicts}, "continuation")
    assert index["looped"] == {"base": [1, 0]} and index["cut"] == {"base": [0, 0]}


def test_a_problem_has_its_right_answer_and_a_harmless_prompt_not_the_one_to_tune_on() -> None:
    prompts = [item("problem", answer="42"), item("benign", answer="Gladly."), item("instruction")]
    responses = [Response(id=of.id, text="Well.", finish_reason="stop", tokens=1) for of in prompts]
    ((problem, benign, instruction),) = text_chunks(prompts, {"base": responses})
    assert problem["answer"] == "42"
    assert "answer" not in benign and "answer" not in instruction
    assert instruction["responses"] == ["Well."]


def test_jailbreak_resistance_is_a_lower_bound_unless_the_judge_tells_harm() -> None:
    results = results_of({"base": SHARES["base"]})
    assert is_lower_bound(results)
    assert not is_lower_bound(results.model_copy(update={"tells_harm": True}))
    assert not is_lower_bound(results_of({"base": SHARES["base"]}, without=("jailbreak",)))
    assert "lower bound" in page_of(4)
    assert "lower bound" not in page_of(4, lower_bound=False)


def test_the_page_explains_every_label() -> None:
    page = page_of(4)
    for label in (*LABELS, "right", "followed"):
        assert f"<b>{label}</b>" in page


def test_a_set_without_problems_or_instructions_has_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = load_params()
    monkeypatch.chdir(tmp_path)
    params = params.model_copy(update={"recipes": {}})
    prompts = [item("harmful"), item("jailbreak"), item("benign"), item("choice", choices=["a", "b"], gold=0)]
    verdicts = [judged(kind, label="comply") for kind in ("harmful", "jailbreak", "benign")]
    verdicts.append(judged("choice", continuation_correct=True, options=2))
    responses = [Response(id=of.id, text="Well.", finish_reason="stop", tokens=1) for of in prompts[:3]]
    for prompt in prompts:
        write_rows(Path(f"data/benchmarks/{prompt.kind}.jsonl"), [prompt])
    write_rows(Path("data/verdicts/smollm2_135m/base.jsonl"), verdicts)
    write_rows(Path("data/responses/smollm2_135m/base/responses.jsonl"), responses)
    for name, content in (
        ("smollm2_135m.md", "# tiny\n"),
        ("detail/smollm2_135m.json", results_of({"base": SHARES["base"]}).model_dump_json(exclude_none=True)),
        ("figures/smollm2_135m/frontier.svg", SVG.decode()),
    ):
        (tmp_path / "metrics" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "metrics" / name).write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"data/benchmarks/problem\.jsonl"):
        report("smollm2_135m", params)
    for kind in ("problem", "instruction"):
        Path(f"data/benchmarks/{kind}.jsonl").write_bytes(NOTHING)
    page = report("smollm2_135m", params)
    assert '"kinds":["harmful","jailbreak","benign","choice"]' in page


def test_a_variant_that_answered_other_items_is_refused() -> None:
    prompts, verdicts, responses = run_of(8)
    with pytest.raises(PipelineError, match=r"'ties' on the 8 benchmark items, found 7.*1 items without"):
        item_index(prompts, verdicts | {"ties": verdicts["ties"][:7]}, "continuation")
    with pytest.raises(PipelineError, match=r"'ties' to the 6 prompts, found 1 prompts without"):
        text_chunks(prompts, responses | {"ties": responses["ties"][1:]})


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = load_params()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"metrics/smollm2_135m\.md.*dvc repro"):
        report("smollm2_135m", params)
    with pytest.raises(PipelineError, match=r"figures in .*none.*dvc repro"):
        read_figures(tmp_path)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield instance
        instance.close()


def opened(chromium: Any, folder: Path, items: int) -> Any:
    """The report in a page of the browser; any error of its script fails the test."""
    file = folder / "report.html"
    file.write_text(page_of(items), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1000, "height": 800})
    page.on("pageerror", lambda error: pytest.fail(f"the report's script failed: {error}"))
    page.set_default_timeout(120_000)
    page.goto(file.as_uri())
    page.locator("html[data-ready]").wait_for()  # not wait_for_function: the policy forbids its eval
    return page


@browser_wanted
@pytest.mark.browser
def test_hostile_answers_are_shown_as_text(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, 40)
    page.select_option("#kind", label="benign")
    page.locator(".row").first.click()
    shown = page.locator("#detail pre").nth(1).text_content()
    assert shown.startswith("</script><script>window.hacked = 1</script><img src=x")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#detail img, #detail script").count() == 0
    assert "by the rule “answer”; cut off at the token limit" in page.locator("#detail").inner_text()
    page.close()


@browser_wanted
@pytest.mark.browser
def test_items_are_filtered_searched_and_compared(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, 400)

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


@browser_wanted
@pytest.mark.browser
def test_harmful_text_is_folded_until_it_is_asked_for(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, 40)
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


@browser_wanted
@pytest.mark.browser
def test_the_printed_page_lists_the_filtered_items_without_controls(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, 40)
    page.select_option("#kind", label="jailbreak")
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.locator("#printed tr").count() == 11
    assert page.locator("#printed").is_visible()
    assert not page.locator("#filters").is_visible()
    assert "Prompt number" not in page.locator("#printed").inner_text()
    page.close()


@browser_wanted
@pytest.mark.browser
def test_twenty_thousand_items_open_in_three_seconds(chromium: Any, tmp_path: Path) -> None:
    page = opened(chromium, tmp_path, 20_000)
    assert page.locator("#count").inner_text() == "20,000 of 20,000 items"
    assert page.locator(".row").count() < 60
    took = []  # ms since the page was asked for; the least of some openings, since others may want the processor, too
    for _ in range(5):
        took.append(int(page.evaluate("document.documentElement.dataset.ready")))
        if took[-1] < 3000:
            break
        page.reload()
        page.locator("html[data-ready]").wait_for()
    assert min(took) < 3000, took
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.locator(".row[data-item='19999']").wait_for()
    page.close()
