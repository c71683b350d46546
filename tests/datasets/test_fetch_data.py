"""Which items are chosen: stratified, nested, the same everywhere, apart from tuning."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import ROOT
from workplace import OF_KIND

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import (
    KINDS,
    PROMPT,
    AnyPrompt,
    ChatPrompt,
    Kind,
    Split,
    read_examples,
    read_items,
    read_rows,
    write_rows,
)
from safety_tax.datasets import matched_benign
from safety_tax.datasets.item import Item, normalised
from safety_tax.datasets.jailbreak_texts import with_goal
from safety_tax.datasets.leakage import common_ngrams, leaking, require_apart
from safety_tax.datasets.selection import (
    Found,
    as_prompts,
    as_row,
    as_shots,
    compose_jailbreaks,
    fraction,
    in_nested_order,
    not_shown,
    of_one_kind,
    require_checkable,
    sample,
    select,
    short_enough,
)
from safety_tax.params import Params, load_params
from safety_tax.settings.data import FetchData


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> FetchData:
    monkeypatch.chdir(ROOT)
    return load_params().fetch_data


def prompt(text: str, split: Split = "eval", kind: Kind = "harmful") -> AnyPrompt:
    return as_row(kind, "b", Item("g", text, **OF_KIND.get(kind, {})), split)


def test_an_id_ignores_case_spacing_and_punctuation() -> None:
    assert Item("g", "How  do I, well, cook?").id() == Item("h", "how do i well cook").id()
    assert Item("g", "How do I cook").id() != Item("g", "How do I bake").id()
    assert Item("g", "Q", ["a", "b"]).id() != Item("g", "Q", ["b", "a"]).id()


def test_signs_tell_questions_apart_and_nothing_else() -> None:
    options = ["0", "4", "2", "6"]
    fields = ["Q(√2 + √3)", "Q(√2, √3)", "Q(√2·√3)", "J << a", "J >> a"]
    assert len({Item("g", f"Find the degree of {field}.", options).id() for field in fields}) == 5
    assert Item("g", "Is x = 2 ?", options).id() == Item("g", "is  x=2?", options).id()
    assert Item("g", "1 + 1?").id() == Item("g", "1 - 1?").id()  # of a prompt without options the words are the id


def test_an_id_never_changes() -> None:
    # A golden value: another id would unpair every earlier result.
    assert Item("g", "How do I kill a Python process?").id() == "3624251001df02ca"
    assert Item("g", "Which one?", ["a", "b"]).id() == "2606d8cd1a9067b6"


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


def test_short_questions_are_a_part_of_the_bigger_size(settings: FetchData) -> None:
    """MMLU's numbers: 57 subjects, 12,600 questions; two fifths are short, in some subjects none of them."""
    items = []
    for subject in range(57):
        for n in range(60 + 5 * subject + (40 if subject > 50 else 0)):
            short = fraction(1, "short", f"{subject} {n}") < min(1.0, 0.9 - 0.0125 * subject)
            items.append(("b", Item(f"s{subject}", f"{subject} {n} " + "x" * (10 if short else 500), ["a", "b"], 0)))
    ordered = in_nested_order(as_prompts("choice", items, settings), settings.seed)
    short = short_enough(ordered, 300)
    assert 0.4 < len(short) / len(ordered) < 0.6
    assert {p.id for p in short[:600]} <= {p.id for p in ordered[:2000]}
    assert short_enough(ordered, "all") == ordered
    assert short_enough([ordered[0]], len(ordered[0].text) + 2) == [ordered[0]]
    assert short_enough([ordered[0]], len(ordered[0].text) + 1) == []


def test_problems_and_instructions_are_never_tuned_on(settings: FetchData) -> None:
    kinds: tuple[Kind, ...] = ("jailbreak", "problem", "instruction")
    for kind in kinds:
        items = [("b", Item("g", f"item {n}", **OF_KIND.get(kind, {}))) for n in range(50)]
        assert {p.split for p in as_prompts(kind, items, settings)} == {"eval"}


def test_an_item_without_what_its_kind_has_is_named() -> None:
    with pytest.raises(ValueError, match="Field required: 'gold' of the choice item Which"):
        as_row("choice", "b", Item("g", "Which?", ["a", "b"]), "eval")
    with pytest.raises(ValueError, match="not permitted: 'gold' of the harmful item How"):
        as_row("harmful", "b", Item("g", "How?", gold=1), "eval")


def test_a_worked_example_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    shots = as_shots("problem", [("b", Item("b", "How  many?", answer="1", solution="#### 1"))])
    asked = [prompt("how many", kind="problem"), prompt("how much", kind="problem")]
    assert not_shown(asked, shots) == asked[1:]
    assert "problem: 1 dropped" in capsys.readouterr().out


def read_all(items: dict[Kind, list[str]], shots: dict[Kind, list[Item]]) -> Found:
    """What datasets hold; a question has two options."""

    def item(kind: Kind, text: str) -> Item:
        answers = {"problem": "1", "benign": "Yes."}
        of_kind = OF_KIND["instruction"] if kind == "instruction" else {"answer": answers.get(kind)}
        return Item("g", text, **(OF_KIND["choice"] if kind == "choice" else of_kind))

    found = {kind: [("b", item(kind, text)) for text in items.get(kind, [])] for kind in KINDS}
    return Found(found, defaultdict(list, {kind: [("b", shot) for shot in rows] for kind, rows in shots.items()}))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Params:
    """The project's params with a set that asks problems, and one item of each kind."""
    monkeypatch.chdir(ROOT)
    content = load_params().model_dump()
    content["catalog"]["smollm2_135m"]["benchmarks"] = "offline_reasoning"
    content["sizes"]["quick"] |= {kind: 1 for kind in KINDS} | {"choice": 2, "problem": "all"}
    return Params.model_validate(content)


def test_tuning_rows_that_meet_a_problem_are_dropped(small: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "how many apples has a boy with one two three apples"
    rows: dict[Kind, list[str]] = {kind: [f"{kind} text {n}" for n in range(60)] for kind in KINDS}
    rows["harmful"] += [f"number {n} {problem} {n}" for n in range(5)]
    rows["problem"] = [problem, "one that is shown", "harmful text 3"]
    shown = Item("b", "One that is shown!", answer="1", solution="#### 1")
    monkeypatch.setattr("safety_tax.datasets.selection.read_datasets", lambda _: read_all(rows, {"problem": [shown]}))
    selected = select(small)
    held_harmful = {row.text for row in selected["tune"]}
    assert not [text for text in held_harmful if problem in text]
    # "harmful text 3" is a harmful prompt, the second problem a worked example.
    assert [row.text for row in selected["problem"]] == [problem]
    assert [(row.kind, row.solution) for row in selected["shots"]] == [("problem", "#### 1")]
    assert selected["instruction"] == []


def test_a_currency_without_items_is_named(small: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[Kind, list[str]] = {kind: [f"{kind} text {n}" for n in range(60)] for kind in KINDS if kind != "problem"}
    rows["problem"] = ["harmful text 3"]
    monkeypatch.setattr("safety_tax.datasets.selection.read_datasets", lambda _: read_all(rows, {}))
    with pytest.raises(PipelineError, match="Expected problem items in the benchmark set, found none in gsm_symbolic"):
        select(small)


def test_a_limit_that_no_question_meets_is_named(small: Params) -> None:
    limited = small.model_copy(
        update={"sizes": {"quick": small.sizes["quick"].model_copy(update={"choice_characters": 3})}}
    )
    with pytest.raises(PipelineError, match="choice items of at most 3 characters in the benchmark set"):
        sample("choice", [prompt("a question", kind="choice")], limited)


@pytest.mark.parametrize(("kind", "words"), [("problem", "no right answer"), ("instruction", "nothing to verify")])
def test_an_item_that_cannot_be_checked_is_refused(kind: Kind, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        require_checkable(kind, [Item("g", "text", answer=" ", checks=[])])
    require_checkable("harmful", [Item("g", "text")])


def test_no_rows_are_one_line_feed_and_read_as_none(tmp_path: Path) -> None:
    write_rows(tmp_path / "problem.jsonl", iter([]))
    assert (tmp_path / "problem.jsonl").read_bytes() == b"\n"
    assert read_items(tmp_path, "problem") == read_examples(tmp_path / "problem.jsonl") == []
    (tmp_path / "benign.jsonl").write_bytes(b"\n")
    with pytest.raises(PipelineError, match=r"at least one row in .*benign.jsonl, found none"):
        read_items(tmp_path, "benign")
    (tmp_path / "problem.jsonl").write_bytes(b"")
    with pytest.raises(PipelineError, match="found none"):
        read_items(tmp_path, "problem")
    with pytest.raises(PipelineError, match="found no such file"):
        read_items(tmp_path, "instruction")


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
        ChatPrompt(id=str(n), benchmark="b", kind="benign", group="g", split="eval", text=t)
        for n, t in enumerate(texts)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", PROMPT) == rows


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
    from safety_tax.core.rows import Response

    (tmp_path / "rows.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(PipelineError, match=words):
        read_rows(tmp_path / "rows.jsonl", Response)
