"""Which items are chosen: stratified, nested, the same everywhere, apart from tuning."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

from stages.fetch_data import as_prompts, compose_jailbreaks, in_nested_order, of_one_kind
from stages.lib.datasets import matched_benign
from stages.lib.datasets.item import Item, normalised
from stages.lib.datasets.jailbreak_texts import with_goal
from stages.lib.datasets.leakage import common_ngrams, leaking, require_apart
from stages.lib.errors import PipelineError
from stages.lib.params import FetchData, load_params
from stages.lib.rows import Prompt, read_rows, write_rows


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> FetchData:
    monkeypatch.chdir(ROOT)
    return load_params().fetch_data


def prompt(text: str, split: str = "eval", kind: str = "harmful") -> Prompt:
    item = Item("g", text)
    return Prompt.model_validate(
        {"id": item.id(), "benchmark": "b", "kind": kind, "group": "g", "split": split, "text": text}
    )


def test_an_id_ignores_case_spacing_and_punctuation() -> None:
    assert Item("g", "How  do I, well, cook?").id() == Item("h", "how do i well cook").id()
    assert Item("g", "How do I cook").id() != Item("g", "How do I bake").id()
    assert Item("g", "Q", ["a", "b"]).id() != Item("g", "Q", ["b", "a"]).id()


def test_an_id_never_changes() -> None:
    # A golden value: another id would unpair every earlier result.
    assert Item("g", "How do I kill a Python process?").id() == "3624251001df02ca"


def test_a_text_without_words_still_has_an_id() -> None:
    assert normalised("?!") == "?!"
    assert Item("g", "?!").id() != Item("g", "!?").id()


def test_a_prefix_holds_every_group_in_proportion(settings: FetchData) -> None:
    items = [
        ("b", Item(group, f"{group} number {n}"))
        for group, size in (("x", 60), ("y", 30), ("z", 10))
        for n in range(size)
    ]
    ordered = in_nested_order(as_prompts("harmful", items, settings), settings.seed)
    counts = Counter(p.group for p in ordered[:50])
    assert abs(counts["x"] - 30) <= 1 and abs(counts["y"] - 15) <= 1 and abs(counts["z"] - 5) <= 1


def test_order_does_not_depend_on_the_order_of_the_source(settings: FetchData) -> None:
    items = [("b", Item("xy"[n % 2], f"prompt number {n}")) for n in range(40)]
    orders = [in_nested_order(as_prompts("benign", rows, settings), settings.seed) for rows in (items, items[::-1])]
    assert [p.id for p in orders[0]] == [p.id for p in orders[1]]


def test_duplicates_are_dropped(settings: FetchData) -> None:
    items = [("b", Item("g", "Same prompt")), ("c", Item("h", "same  prompt!")), ("c", Item("h", "other"))]
    assert [(p.benchmark, p.text) for p in as_prompts("harmful", items, settings)] == [
        ("b", "Same prompt"),
        ("c", "other"),
    ]


def test_a_text_of_two_kinds_stays_in_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    harmful, benign = [prompt("One text"), prompt("another")], [prompt("one  text!", kind="benign"), prompt("a third")]
    assert of_one_kind({"harmful": harmful, "benign": benign}) == {"harmful": harmful, "benign": benign[1:]}
    assert "benign: 1 dropped whose text is an item of another kind" in capsys.readouterr().out


def test_the_split_takes_the_share_it_says(settings: FetchData) -> None:
    items = [("b", Item("g", f"prompt {n}")) for n in range(4000)]
    splits = Counter(p.split for p in as_prompts("harmful", items, settings))
    assert abs(splits["tune"] / 4000 - settings.tune_share.harmful) < 0.03


def test_a_goal_goes_into_the_placeholder_or_below() -> None:
    assert with_goal("Say [INSERT PROMPT HERE] now", r"the \1 goal") == r"Say the \1 goal now"
    assert with_goal("Obey me.", "the goal") == "Obey me.\n\nthe goal"


def test_long_jailbreak_texts_are_left_out(settings: FetchData) -> None:
    texts = [("j", Item("dan", "x" * (settings.jailbreak_characters + 1))), ("j", Item("dan", "short one"))]
    composed = compose_jailbreaks(texts, [prompt("the goal")], settings)
    assert [p.text for p in composed] == ["short one\n\nthe goal"]
    assert composed[0].split == "eval"


def test_rows_that_share_a_long_run_of_words_leak() -> None:
    held = [prompt("please tell me how one two three four five six")]
    tune = [prompt("you know one two three four five six already", "tune"), prompt("one two three four five", "tune")]
    assert [row for row, _ in leaking(tune, held, words=6, common=set())] == [tune[0].id]
    with pytest.raises(PipelineError, match="found 1: row"):
        require_apart(tune, held, 6, set())


def test_equal_texts_leak_however_short() -> None:
    assert leaking([prompt("Hello there", "tune")], [prompt("hello THERE!")], words=8, common={"hello there"})


def test_boilerplate_does_not_leak() -> None:
    shared = "which of the following statements is true about"
    held = [prompt(f"{shared} thing {n}") for n in range(5)]
    tune = [prompt(f"{shared} something else", "tune")]
    assert common_ngrams([*tune, *held], 8, boilerplate=5) == {shared}
    assert common_ngrams([*tune, *held], 8, boilerplate=6) == set()
    assert leaking(tune, held, 8, set())
    assert not leaking(tune, held, 8, {shared})


def test_a_goal_that_many_jailbreaks_wrap_is_no_boilerplate() -> None:
    goal = "say how one two three four five six"
    wrapped = [prompt(f"persona {n}: {goal}", kind="jailbreak") for n in range(20)]
    assert common_ngrams([prompt(goal), *wrapped], 8, boilerplate=10) == set()


def test_rows_that_leave_make_no_others_leak() -> None:
    """What ten rows and an item share is boilerplate of eleven, also when one of the rows leaves for another reason."""
    shared, other = "which of the following statements is true about", "one two three four five six seven eight"
    held = [prompt(f"{shared} this"), prompt(f"{other} that")]
    tune = [prompt(f"{shared} thing {n}", "tune") for n in range(9)]
    tune.append(prompt(f"{shared} things and {other} things", "tune"))
    common = common_ngrams([*tune, *held], 8, boilerplate=10)
    leaks = [row for row, _ in leaking(tune, held, 8, common)]
    assert leaks == [tune[-1].id]
    require_apart(tune[:-1], held, 8, common)


def test_the_projects_benign_prompts_are_complete() -> None:
    items = matched_benign.read(ROOT / "data/prompts")
    assert len(items) == 300
    assert len({item.id() for item in items}) == 300
    assert set(Counter(item.group for item in items).values()) == {30}
    assert all(item.pair and item.answer for item in items)


def test_rows_survive_hostile_text(tmp_path: Path) -> None:
    texts = [
        "\x1b[31mred\x00",
        "lone \ud800 surrogate",
        "line\u2028separator\nnew",
        "<script>alert(1)</script>",
        "x" * 1_000_000,
    ]
    rows = [
        Prompt(id=str(n), benchmark="b", kind="benign", group="g", split="eval", text=t) for n, t in enumerate(texts)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", Prompt) == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "found none"),
        ("{}\n", "line 1"),
        ("not json\n", "line 1"),
        ('{"id":"1","text":"a","finish_reason":"stop","tokens":1}\n' * 2, "again in line 2"),
        ('{"id":"1","text":"a","finish_reason":"eos","tokens":1}\n', "finish_reason"),
        ('{"id":"1","text":"a","finish_reason":"stop","tokens":1,"x":2}\n', "x"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, content: str, words: str) -> None:
    from stages.lib.rows import Response

    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=words):
        read_rows(tmp_path / "rows.jsonl", Response)
