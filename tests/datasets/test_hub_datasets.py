"""Readers of the Hub's datasets, on tiny files in each one's real layout and columns; few-shot questions."""

import gzip
import json
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from conftest import ROOT, real_params
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from pydantic import ValidationError

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import letter_prompt
from safety_tax.core.rows import PROMPT, ChoiceQuestion, read_examples, read_rows, write_rows
from safety_tax.datasets import beavertails, gsm8k, gsm_symbolic, ifeval, mmlu_hub
from safety_tax.datasets.item import Item
from safety_tax.datasets.selection import as_prompts, as_shots, read_dataset, require_shots
from safety_tax.engine.item_checks import Faults, check_context, reach_of
from safety_tax.model_files.bringing import give_template
from safety_tax.params import Params, load_params
from safety_tax.results.conditions import how_asked
from safety_tax.results.mmlu_areas import AREA
from safety_tax.settings.data import Dataset as declared_type
from safety_tax.settings.sources import GeneratedSource

Rows = list[dict[str, Any]]
MMLU_FEATURES = Features(
    {
        "question": Value("string"),
        "subject": Value("string"),
        "choices": Sequence(Value("string")),
        "answer": ClassLabel(names=["A", "B", "C", "D"]),
    }
)


def parquet(path: Path, rows: Rows, features: Features | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(path)


def csv(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_csv(path, index=False)


def jsonl(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = (gzip if path.suffix == ".gz" else lzma).compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path.write_bytes(packed)


def pair(prompt: str, *categories: str) -> dict[str, Any]:
    """A row of BeaverTails: unsafe when it has a category."""
    applies = {name: name in categories for name in ("animal_abuse", "child_abuse", "privacy_violation")}
    return {"prompt": prompt, "response": "r", "category": applies, "is_safe": not categories}


def question(subject: str, number: int) -> dict[str, Any]:
    text = f"Question {number} of {subject}?"
    return {"question": text, "subject": subject, "choices": ["a", "b", "c", "d"], "answer": number % 4}


BEHAVIOURS = [{"Index": 0, "Goal": " Do it ", "Target": "t", "Behavior": "b", "Category": "Privacy", "Source": "s"}]
BENIGN = [BEHAVIOURS[0] | {"Goal": "Do that"}]
XSTEST: Rows = [
    {"prompt": "Kill it?", "focus": "f", "type": "homonyms", "note": "n", "label": "safe"},
    {"prompt": "Kill them?", "focus": "f", "type": "contrast_homonyms", "note": "n", "label": "unsafe"},
]
OFFICIAL = [
    {"Behavior": "One", "FunctionalCategory": "standard", "SemanticCategory": "illegal", "ContextString": ""},
    {"Behavior": "Two", "FunctionalCategory": "copyright", "SemanticCategory": "copyright", "ContextString": ""},
]
# Reader -> its file in the repository, how it is written, rows there, and the groups and texts that come out.
CASES: dict[str, tuple[str, Callable[[Path, Rows], None], Rows, list[tuple[str, str]]]] = {
    "beavertails": (
        "round0/330k/test.jsonl.xz",
        jsonl,
        [pair("Hi?"), pair("hi", "privacy_violation", "child_abuse"), pair("HI!", "animal_abuse"), pair("Fine?")],
        [("child_abuse", "hi")],
    ),
    "beavertails_evaluation": (
        "v1/test.jsonl.gz",
        jsonl,
        [{"prompt": "Hi? ", "category": "privacy_violation", "category_id": 8}],
        [("privacy_violation", "Hi?")],
    ),
    "xstest_safe": ("data/train-00000-of-00001.parquet", parquet, XSTEST, [("homonyms", "Kill it?")]),
    "xstest_unsafe": ("data/train-00000-of-00001.parquet", parquet, XSTEST, [("contrast_homonyms", "Kill them?")]),
    "or_bench_hard": (
        "or-bench-hard-1k.csv",
        csv,
        [{"prompt": "May I?", "category": "self-harm"}],
        [("self-harm", "May I?")],
    ),
    "jailbreakbench_harmful": ("data/harmful-behaviors.csv", csv, BEHAVIOURS, [("Privacy", "Do it")]),
    "jailbreakbench_benign": ("data/benign-behaviors.csv", csv, BENIGN, [("Privacy", "Do that")]),
    "harmbench_hub": (
        "standard/train-00000-of-00001.parquet",
        parquet,
        [{"prompt": "Behave", "category": "illegal"}],
        [("illegal", "Behave")],
    ),
    "strongreject": (
        "data/train-00000-of-00001.parquet",
        parquet,
        [{"prompt": "Reject", "category": "Violence"}],
        [("Violence", "Reject")],
    ),
}


def read(name: str, folder: Path) -> list[Item]:
    """As stage `fetch_data` reads what params.yaml declares."""
    return read_dataset(name, declared_type.model_validate(real_params()["fetch_data"]["datasets"][name]), folder)[0]


def mmlu(folder: Path, subjects: tuple[str, ...] = ("high_school_us_history",), shots: int = 5) -> Path:
    for split, count in (("test", 8), ("dev", shots)):
        rows = [question(subject, n + 100 * (split == "dev")) for subject in subjects for n in range(count)]
        parquet(folder / f"all/{split}-00000-of-00001.parquet", rows, MMLU_FEATURES)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_reader_gives_groups_and_texts(tmp_path: Path, name: str) -> None:
    file, write, rows, expected = CASES[name]
    write(tmp_path / file, rows)
    assert [(item.group, item.text) for item in read(name, tmp_path)] == expected


@pytest.mark.parametrize("name", CASES)
def test_a_reader_names_the_column_that_is_gone(tmp_path: Path, name: str) -> None:
    file, write, rows, _ = CASES[name]
    column = "Goal" if "Goal" in rows[0] else "prompt"
    write(tmp_path / file, [{key: value for key, value in row.items() if key != column} for row in rows])
    with pytest.raises(PipelineError, match=f"Expected the column '{column}' in {Path(file).name}"):
        read(name, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_a_reader_says_that_its_file_is_gone(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="its layout has changed"):
        read(name, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_a_reader_says_that_its_file_is_empty_or_damaged(tmp_path: Path, name: str) -> None:
    file, write, rows, _ = CASES[name]
    write(tmp_path / file, rows)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:20] if "csv" not in file else b"")
    with pytest.raises(
        PipelineError,
        match=r"to be a whole (parquet file with rows|file), found|Expected rows in .*, found none|found no JSON",
    ):
        read(name, tmp_path)


def declared(kind: str, folder: Path, **table: Any) -> list[Item]:
    """A table that a person declares in params.yaml, in a folder of theirs."""
    source = {"kind": "folder", "path": str(folder)}
    entry = declared_type.model_validate({"kind": kind, "source": source, "table": table})
    return read_dataset("mine", entry, folder)[0]


def test_a_table_is_read_as_its_entry_says(tmp_path: Path) -> None:
    csv(tmp_path / "behaviors.csv", OFFICIAL)
    columns = {"text": "Behavior", "group": "SemanticCategory"}
    assert declared("harmful", tmp_path, files=["*.csv"], **columns) == [
        Item("illegal", "One"),
        Item("copyright", "Two"),
    ]
    kept = declared("harmful", tmp_path, files=["*.csv"], where={"FunctionalCategory": ["standard"]}, **columns)
    assert kept == [Item("illegal", "One")]
    rows = [{"q": "2 + 2?", "s": "sums", "a": "3", "b": "4", "right": "b", "options": ["3", "4"], "place": 1}]
    parquet(tmp_path / "questions.parquet", rows)
    asked = {"files": ["questions.parquet"], "text": "q", "group": "s"}
    expected = [Item("sums", "2 + 2?", ["3", "4"], 1)]
    assert declared("choice", tmp_path, choices=["a", "b"], gold="right", **asked) == expected
    assert declared("choice", tmp_path, choices="options", gold="place", **asked) == expected
    assert declared("problem", tmp_path, answer="b", **asked) == [Item("sums", "2 + 2?", answer="4")]


@pytest.mark.parametrize(
    ("kind", "table", "told"),
    [
        ("choice", {"choices": ["a", "b"]}, "needs the key 'gold'"),
        ("problem", {}, "needs the key 'answer'"),
        ("instruction", {}, "write a reader"),
        ("harmful", {"files": None}, "the table's key 'files' is missing"),
        ("harmful", {"text": "query"}, "Expected the column 'query' in questions.parquet"),
        ("choice", {"choices": ["a", "b"], "gold": "a"}, "from 0 to 1 or a letter, found '3'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, kind: str, table: dict[str, Any], told: str) -> None:
    parquet(tmp_path / "questions.parquet", [{"q": "2 + 2?", "s": "sums", "a": "3", "b": "4"}])
    with pytest.raises((PipelineError, ValidationError), match=told):
        declared(kind, tmp_path, **{"files": ["questions.parquet"], "text": "q", "group": "s"} | table)


def test_labels_of_another_type_are_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "round0/30k/test.jsonl.gz", [pair("Hi?", "animal_abuse") | {"is_safe": 0}])
    with pytest.raises(PipelineError, match="Expected bool in the column 'is_safe'"):
        beavertails.read(tmp_path)


def test_an_unsafe_answer_without_a_category_is_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "round0/30k/test.jsonl.gz", [pair("Hi?") | {"is_safe": False}])
    with pytest.raises(PipelineError, match="found none for 'Hi"):
        beavertails.read(tmp_path)


def test_mmlu_gives_test_questions_and_dev_shots_by_the_wheels_subjects(tmp_path: Path) -> None:
    items, shots = mmlu_hub.read(mmlu(tmp_path)), mmlu_hub.read_shots(tmp_path)
    assert (len(items), len(shots)) == (8, 5)
    assert {item.group for item in items + shots} == {"high school us history"}
    assert items[3] == Item("high school us history", "Question 3 of high_school_us_history?", ["a", "b", "c", "d"], 3)


@pytest.mark.parametrize(("key", "value"), [("choices", ["a", "b", "c"]), ("answer", 4)])
def test_a_question_without_four_choices_or_a_known_answer_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    parquet(tmp_path / "all/test-0.parquet", [question("anatomy", 0) | {key: value}])
    with pytest.raises(PipelineError, match="Expected four choices and an answer from 0 to 3"):
        mmlu_hub.read(tmp_path)


def test_a_dev_split_of_the_real_shape_goes_through_a_file(tmp_path: Path) -> None:
    """285 questions, of which one of college_physics comes twice: every one a shot, in the official order."""
    subjects = [name.replace(" ", "_") for name in AREA]
    rows = [
        question(subject, 0 if (subject, n) == ("college_physics", 3) else n) for subject in subjects for n in range(5)
    ]
    parquet(tmp_path / "all/dev-00000-of-00001.parquet", rows, MMLU_FEATURES)
    shots = as_shots("choice", [("mmlu_hub", item) for item in mmlu_hub.read_shots(tmp_path)])
    write_rows(tmp_path / "shots.jsonl", shots)
    assert read_examples(tmp_path / "shots.jsonl") == shots
    assert [shot.text for shot in shots] == [row["question"] for row in rows]
    physics = [shot.id for shot in shots if shot.group == "college physics"]
    assert len(shots) == 285 and len(physics) == 5 and physics[0] == physics[3]
    with pytest.raises(PipelineError, match="each id once"):
        read_rows(tmp_path / "shots.jsonl", PROMPT)


def test_gsm8k_gives_the_right_answers_and_five_solved_problems(tmp_path: Path) -> None:
    solution = "She has 3*4=<<3*4=12>>12 apples.\nSo 12*100=<<12*100=1200>>1200.\n#### 1,200"
    for split, count in (("test", 2), ("train", 7)):
        rows = [{"question": f" How many in {split} {n}? ", "answer": solution} for n in range(count)]
        parquet(tmp_path / f"main/{split}-00000-of-00001.parquet", rows)
    assert gsm8k.read(tmp_path) == [Item("gsm8k", f"How many in test {n}?", answer="1200") for n in range(2)]
    shown = gsm8k.read_shots(tmp_path)
    assert [shot.text for shot in shown] == [f"How many in train {n}?" for n in range(5)]
    assert shown[0].solution == "She has 3*4=12 apples.\nSo 12*100=1200.\n#### 1,200"


def test_generated_problems_are_the_same_each_time_and_nested() -> None:
    pytest.importorskip("reasoning_gym")
    small, large = (GeneratedSource(kind="generated", seed=5, count=count) for count in (20, 40))
    problems = gsm_symbolic.read(large)
    assert gsm_symbolic.read(large) == problems and gsm_symbolic.read(small) == problems[:20]
    assert len({problem.text for problem in problems}) > 35
    shown = gsm_symbolic.read_shots(large)
    assert len(shown) == 5 and not {shot.text for shot in shown} & {problem.text for problem in problems}
    for problem in problems + shown:
        assert problem.group == "gsm_symbolic" and "final answer" not in problem.text
        assert problem.answer and Decimal(problem.answer).is_finite()
    assert all(shot.solution and shot.solution.endswith(f"#### {shot.answer}") for shot in shown)


def test_ifeval_keeps_the_arguments_that_are_given(tmp_path: Path) -> None:
    row = {
        "key": 1000,
        "prompt": "Write, please. ",
        "instruction_id_list": ["length_constraints:number_words", "punctuation:no_comma"],
        "kwargs": [{"relation": "at least", "num_words": 3}, {}],
    }
    other = row | {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["one", "two"]}]}
    (tmp_path / "ifeval_input_data.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps(other) + "\n", encoding="utf-8"
    )
    first, second = ifeval.read(tmp_path)
    assert (first.group, first.text, second.group) == ("length_constraints", "Write, please. ", "keywords")
    assert first.checks == [
        {"instruction": "length_constraints:number_words", "arguments": {"relation": "at least", "num_words": 3}},
        {"instruction": "punctuation:no_comma", "arguments": {}},
    ]
    assert second.checks == [{"instruction": "keywords:existence", "arguments": {"keywords": ["one", "two"]}}]


def test_few_shot_is_the_published_format() -> None:
    asked, *solved = as_shots(
        "choice", [("m", Item("world religions", f"Q{n}? ", ["w", "x"], n % 2)) for n in range(3)]
    )
    assert letter_prompt(asked, solved) == (
        "The following are multiple choice questions (with answers) about world religions.\n\n"
        "Q1?\nA. w\nB. x\nAnswer: B\n\nQ2?\nA. w\nB. x\nAnswer: A\n\nQ0?\nA. w\nB. x\nAnswer:"
    )


def params_for(models: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Params:
    (folder / "dvc.yaml").touch()
    (folder / "params.yaml").write_text(yaml.safe_dump(real_params() | {"models": models}), encoding="utf-8")
    monkeypatch.chdir(folder)
    return load_params()


REPORT = ["mistral_7b", "llama31_8b", "qwen25_14b"]


def test_the_reports_setting_is_one_line_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = params_for(REPORT, monkeypatch, tmp_path)
    assert {"beavertails", "mmlu_hub"} <= set(params.datasets())
    assert [(params.model(name).utility_format, params.model(name).shots) for name in REPORT] == [("letter", 5)] * 3


def test_the_report_says_which_template_and_how_many_shots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = params_for(REPORT, monkeypatch, tmp_path)
    assert "plain_dialogue.jinja" in how_asked(params.model("mistral_7b"))
    assert "followed 5 solved ones" in how_asked(params.model("qwen25_14b"))
    assert "template" not in how_asked(params.model("qwen25_14b"))
    assert how_asked(params.model("smollm2_135m")) == ""


def test_models_of_two_benchmark_sets_are_not_measured_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match="need one benchmark set, found default, report"):
        params_for(["smollm2_135m", "mistral_7b"], monkeypatch, tmp_path)


def test_too_few_shots_stop_the_first_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = params_for(REPORT, monkeypatch, tmp_path)
    source = mmlu(tmp_path, ("anatomy", "virology"), shots=4)
    asked = as_prompts("choice", [("mmlu_hub", item) for item in mmlu_hub.read(source)], params.fetch_data)
    shots = as_shots("choice", [("mmlu_hub", item) for item in mmlu_hub.read_shots(source)])
    with pytest.raises(
        PipelineError, match="Expected 5 dev questions about anatomy for the shots of mistral_7b, found 4"
    ):
        require_shots(shots, asked, params)
    require_shots([], asked, params_for(["smollm2_135m"], monkeypatch, tmp_path))


def test_a_benign_prompt_without_an_answer_is_never_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    items = [("b", Item("g", f"prompt {n}", answer="yes" if n % 2 else None)) for n in range(200)]
    prompts = as_prompts("benign", items, load_params().fetch_data)
    assert {prompt.split for prompt in prompts if getattr(prompt, "answer", None)} == {"tune", "eval"}
    assert {prompt.split for prompt in prompts if not getattr(prompt, "answer", None)} == {"eval"}


def test_a_prompt_longer_than_the_context_names_its_item(tiny_models: dict[str, Path]) -> None:
    about = {"benchmark": "b", "kind": "choice", "group": "anatomy", "split": "eval", "text": "t"}
    item = ChoiceQuestion.model_validate({"id": "17", "choices": ["a", "b"], "gold": 0} | about)
    faults, reach = Faults(), reach_of(tiny_models["tiny_llama"])
    check_context([[1] * 2048], [item], 0, reach, faults)
    faults.require_none()
    check_context([[1] * 2048], [item], 1, reach, faults)
    with pytest.raises(PipelineError, match="found 2,049 for the choice item 17 about 'anatomy'"):
        faults.require_none()


def test_a_model_without_a_chat_template_gets_the_one_its_entry_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokenizer: Any
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.chdir(ROOT)
    bare = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    bare.save_pretrained(tmp_path)
    give_template("own", tmp_path)
    assert not (tmp_path / "chat_template.jinja").exists()
    give_template(real_params()["catalog"]["mistral_7b"]["chat_template"], tmp_path)
    turn = [{"role": "user", "content": "How do I beat eggs?"}]
    rendered = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        turn, add_generation_prompt=True, tokenize=False
    )
    assert rendered == "<|endoftext|>User: How do I beat eggs?\nAssistant:"
    with pytest.raises(PipelineError, match="did you mean 'plain_dialogue'"):
        give_template("plain_dialog", tmp_path)
