"""What surrounds a text, the day that a chat template is told, and which tokens end an answer."""

import copy
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import CHAT_TEMPLATE
from test_inference import INFER, RUN, model_entry, questions
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast
from workplace import DATE, encoder_of

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import ChatPrompt
from safety_tax.donors.tuning_rows import as_tokens
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.preparing import Asking, Examples, Prepared, prepare
from safety_tax.engine.protocol import Answers, Generated, Questions
from safety_tax.engine.rows import responses_of
from safety_tax.judging.rules import judge
from safety_tax.model_files.bringing import name_ends
from safety_tax.tokens.chat_template import rendered_chat, tells_date
from safety_tax.tokens.encoder import Encoder, surroundings
from safety_tax.tokens.ends import Ends, end_of_turn, ends_of, stops_of
from safety_tax.tokens.thoughts import CHANNEL_MARKS

BOS, START, END = 0, 1, 2
SIDES = {"around": "<|endoftext|> $A <|im_end|>", "after": "$A <|im_end|>", "before": "<|endoftext|> $A"}


def surrounded(tokenizer: PreTrainedTokenizerFast, single: str) -> PreTrainedTokenizerFast:
    """The tokenizer with a post-processor that puts special tokens around every text."""
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<|endoftext|>", BOS), ("<|im_end|>", END)]
    )
    return own


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer)
    own.chat_template = template
    return own


def with_files(tokenizer: PreTrainedTokenizerFast, folder: Path, **files: Any) -> Path:
    """A folder with the tokenizer's files and JSON files of these contents."""
    folder.mkdir(exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "max_position_embeddings": 2048, "vocab_size": 600}), encoding="utf-8"
    )
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def benign(text: str = "Why?", answer: str = "Because.") -> ChatPrompt:
    return ChatPrompt(id="x", benchmark="b", kind="benign", group="g", split="tune", text=text, answer=answer)


# What surrounds a text


@pytest.mark.parametrize("sides", SIDES)
def test_what_surrounds_a_text_is_found_out(tokenizer: PreTrainedTokenizerFast, sides: str) -> None:
    own = surrounded(tokenizer, SIDES[sides])
    assert own("hi")["input_ids"] != tokenizer("hi")["input_ids"]
    expected = ([BOS] if sides != "after" else [], [END] if sides != "before" else [])
    assert surroundings(own, "m") == expected
    encoder, texts = encoder_of(own), ["hi there", "", "hi"]
    assert encoder.text("hi there") == [*expected[0], *tokenizer("hi there")["input_ids"]]
    assert encoder.texts(texts) == [encoder.text(text) for text in texts]
    assert encoder.texts([]) == []


@pytest.mark.parametrize("form", ["continuation", "letter"])
@pytest.mark.parametrize("sides", SIDES)
def test_options_are_never_scored_after_an_end_of_text(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, sides: str, form: Any
) -> None:
    def asked(reader: PreTrainedTokenizerFast) -> list[Any]:
        folder = with_files(reader, tmp_path / "model")
        asking = Asking.of(folder, "tiny", model_entry(form), INFER, RUN, DATE, engine=Tree)
        part = prepare(asking, [], {form: questions(3)}, Examples({}, {}))[1][form].part
        shutil.rmtree(folder)
        assert isinstance(part, Questions)
        return list(part.items)

    begin = [] if sides == "after" else [BOS]
    for question, plain in zip(asked(surrounded(tokenizer, SIDES[sides])), asked(tokenizer), strict=True):
        assert question.context == begin + plain.context
        assert question.full == [begin + full for full in plain.full]
        assert END not in question.context and all(END not in full for full in question.full)


@pytest.mark.parametrize("form", ["continuation", "letter"])
def test_a_tuned_option_has_the_tokens_that_are_scored_and_no_end(
    tokenizer: PreTrainedTokenizerFast, form: str
) -> None:
    question = questions(1)[0]
    rows = [
        as_tokens(question, {}, encoder_of(reader), model_entry(form))  # type: ignore[arg-type]
        for reader in (surrounded(tokenizer, SIDES["around"]), tokenizer)
    ]
    assert rows[0].prompt == [BOS, *rows[1].prompt] and rows[0].response == rows[1].response
    assert END not in rows[0].response


def test_a_chat_has_the_beginning_that_its_template_renders_and_never_two(tokenizer: PreTrainedTokenizerFast) -> None:
    own = surrounded(tokenizer, SIDES["around"])
    without = encoder_of(own).chat("Why?")
    assert without[0] == START and without[-1] != END
    own.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    assert encoder_of(own).chat("Why?") == [BOS, *without]
    row = as_tokens(benign(), {}, encoder_of(own), model_entry("letter"))
    assert row.prompt == [BOS, *without] and row.response.count(END) == 1 and row.response[-1] == END


def test_a_tokenizer_that_changes_the_text_itself_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    class Odd(PreTrainedTokenizerFast):
        def __call__(self, text: Any, add_special_tokens: bool = True, **more: Any) -> Any:
            return super().__call__(text.upper() if add_special_tokens else text, add_special_tokens=False, **more)

    odd = Odd(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(PipelineError, match=r"'m' to put special tokens before and after a text alone, found that"):
        surroundings(odd, "m")


# The day


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("Today: {{ strftime_now('%A %d %B %Y') }}. ", "Today: Friday 26 July 2024. "),
        ("{{ strftime_now('%Y-%m-%d %H:%M') }} ", "2024-07-26 00:00 "),
        ("{{ strftime_now('%s %%s') }} ", "1721952000 %s "),
        ("{% if date_string is defined %}{{ date_string }} {% endif %}", "26 Jul 2024 "),
        (
            "{% if not date_string %}{% set date_string = 'never' %}{% endif %}{{ date_string }} ",
            "26 Jul 2024 ",
        ),
    ],
)
def test_a_template_is_told_the_date_of_params(tokenizer: PreTrainedTokenizerFast, template: str, words: str) -> None:
    own = with_template(tokenizer, template + CHAT_TEMPLATE)
    plain = encoder_of(tokenizer).chat_text("Why?")
    assert encoder_of(own).chat_text("Why?") == words + plain
    assert tells_date(own, "m") and not tells_date(tokenizer, "m")
    # The same in what a donor is tuned on, and in what a guard reads.
    row = as_tokens(benign(), {}, encoder_of(own), model_entry("letter"))
    assert own.decode(row.prompt) == words + plain


def test_another_date_is_another_prompt_and_today_is_none(tokenizer: PreTrainedTokenizerFast) -> None:
    own = with_template(tokenizer, "{{ strftime_now('%Y') }}" + CHAT_TEMPLATE)
    turns = [{"role": "user", "content": "Why?"}]
    years = [
        rendered_chat(own, turns, "m", datetime.date(year, 1, 1), add_generation_prompt=True)[:4]
        for year in (1999, 2031)
    ]
    assert years == ["1999", "2031"]


@pytest.mark.parametrize("template", ["{{ ['a', 'b', 'c', 'd'] | random }}", "{{ lipsum(n=1) }}"])
def test_what_a_template_draws_is_the_same_every_time(tokenizer: PreTrainedTokenizerFast, template: str) -> None:
    encoder = encoder_of(with_template(tokenizer, template + CHAT_TEMPLATE))
    assert len({encoder.chat_text("Why?") for _ in range(8)}) == 1


def test_a_template_that_prints_an_address_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    own = with_template(tokenizer, "{{ messages | map(attribute='role') }}" + CHAT_TEMPLATE)
    with pytest.raises(PipelineError, match=r"the same text in every process, found that it prints '<generator"):
        encoder_of(own).chat("Why?")
    # A prompt may hold one.
    assert "at 0x7f00>" in encoder_of(tokenizer).chat_text("What is <function f at 0x7f00>?")


# Ends of an answer


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHAT_TEMPLATE, END),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }} {{ eos_token }}\n{% endfor %}", END),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None),
        # Only between two turns, and where the next turn's beginning follows.
        ("{% for m in messages %}{{ m.content }}{% if not loop.last %}<|im_end|>{% endif %}{% endfor %}", END),
        ("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}", START),
        # It takes no answers.
        ("{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no') }}{% endif %}{% endfor %}", None),
    ],
)
def test_the_templates_end_of_turn_is_the_token_after_an_answer(
    tokenizer: PreTrainedTokenizerFast, template: str, end: int | None
) -> None:
    assert end_of_turn(with_template(tokenizer, template), "m") == end


def test_ends_are_the_union_of_all_that_name_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    own = copy.deepcopy(tokenizer)
    own.eos_token = "<|endoftext|>"
    folder = with_files(own, tmp_path / "model", generation_config={"eos_token_id": [7, 8]})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"eos_token_id": 9}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ends = ends_of(folder, AutoTokenizer.from_pretrained(folder), "m")
    assert ends == Ends(frozenset([BOS, END, 7, 8, 9]), END)
    asking = Asking.of(folder, "tiny", model_entry("letter"), INFER, RUN, DATE, engine=Plain)
    (answers,), _ = prepare(asking, [benign()], {}, Examples({}, {}))
    assert isinstance(answers.part, Answers) and answers.part.stop == ends.tokens
    # A donor learns to end as the template does, not as the tokenizer says.
    row = as_tokens(benign(), {}, Encoder.open(folder, "tiny", DATE), model_entry("letter"))
    assert row.response[-1] == END and BOS not in row.response
    name_ends(folder, "m")
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [BOS, END, 7, 8, 9]


def test_ends_without_a_generation_config(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = with_files(tokenizer, tmp_path / "model")
    assert Encoder.open(folder, "m", DATE).ends == Ends(frozenset([END]), END)
    name_ends(folder, "m")
    assert GenerationConfig.from_pretrained(folder).eos_token_id == END


def test_a_generation_config_that_agrees_stays_the_same_bytes(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = with_files(tokenizer, tmp_path / "model", generation_config={"eos_token_id": 2, "top_k": 3})
    before = (folder / "generation_config.json").read_bytes()
    name_ends(folder, "m")
    assert (folder / "generation_config.json").read_bytes() == before


def test_a_model_whose_answers_nothing_ends_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    own = with_template(tokenizer, "{% for m in messages %}{{ m.content }}{% endfor %}")
    own.eos_token = None
    folder = with_files(own, tmp_path / "model")
    with pytest.raises(PipelineError, match=r"a token that ends an answer of 'tiny' .* found none"):
        Asking.of(folder, "tiny", model_entry("letter"), INFER, RUN, DATE, engine=Plain)
    stopped = model_entry("letter").model_copy(update={"stop": ["\nUser:"]})
    assert Asking.of(folder, "tiny", stopped, INFER, RUN, DATE, engine=Plain).stops.texts == ("\nUser:",)


@pytest.mark.parametrize("named", ["two", {"id": 2}, [2, None], -1, True])
def test_an_end_that_is_no_token_id_is_one_sentence(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, named: Any
) -> None:
    folder = with_files(tokenizer, tmp_path / "model", generation_config={"eos_token_id": named})
    with pytest.raises(PipelineError, match=r"token ids as eos_token_id in .*generation_config.json, found"):
        Encoder.open(folder, "m", DATE)


@pytest.mark.parametrize(("lead", "trail"), [("", ""), (" ", " "), ("  ", "")])
def test_white_space_around_a_tuned_answer_is_the_templates(
    tokenizer: PreTrainedTokenizerFast, lead: str, trail: str
) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}Q:{{ m.content }} A:{% else %}"
        f"{lead}{{{{ m.content }}}}{trail}<|im_end|>\n{{% endif %}}{{% endfor %}}"
    )
    row = as_tokens(benign(), {}, encoder_of(with_template(tokenizer, template)), model_entry("letter"))
    assert tokenizer.decode(row.prompt + row.response) == f"Q:Why? A:{lead}Because.{trail}<|im_end|>"
    assert row.prompt == tokenizer("Q:Why? A:")["input_ids"] and row.response[-1] == END


# `stop`


def test_a_special_token_as_stop_is_its_id_and_text_stays_text(tokenizer: PreTrainedTokenizerFast) -> None:
    stops = stops_of(["<|im_start|>", "\nUser:", " <|im_end|>\n", "</answer>"], tokenizer, "tiny")
    assert stops == (frozenset([START, END]), ("\nUser:", "</answer>"))


@pytest.mark.parametrize(
    ("stop", "found"),
    [
        ("<|eot_id|>", "'<|eot_id|>', which is no token of it"),
        ("</s>", "'</s>', which is no token of it"),
        ("<end_of_turn>", "'<end_of_turn>', which is no token of it"),
        ("User<|im_start|>", "'<|im_start|>' within 'User<|im_start|>'"),
    ],
)
def test_a_stop_that_could_never_be_found_is_refused(tokenizer: PreTrainedTokenizerFast, stop: str, found: str) -> None:
    with pytest.raises(PipelineError) as raised:
        stops_of(["\nUser:", stop], tokenizer, "tiny")
    assert f"found {found}; its special tokens are: <|endoftext|>, <|im_end|>, <|im_start|>." in str(raised.value)
    assert str(raised.value).startswith("Expected each `stop` of catalog.tiny in params.yaml")


# Thoughts


def with_special(tokenizer: PreTrainedTokenizerFast, *tokens: str) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": list(tokens)})
    return own


def test_special_tokens_that_mark_a_thought_are_decoded_and_others_are_not(tokenizer: PreTrainedTokenizerFast) -> None:
    own = with_special(tokenizer, "[THINK]", "[/THINK]", "[TOOL]")
    ids = own("[THINK]Is it safe?[/THINK]Yes, it is.[TOOL]<|im_end|>")["input_ids"]
    assert encoder_of(own).decode(ids) == "[THINK]Is it safe?[/THINK]Yes, it is."
    channels = with_special(tokenizer, *CHANNEL_MARKS, "<|return|>")
    text = "<|channel|>analysis<|message|>Safe.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    assert encoder_of(channels).decode(channels(f"{text}<|return|>")["input_ids"]) == text
    # Without channels these are any model's special tokens.
    plain = with_special(tokenizer, "<|start|>", "<|end|>")
    assert encoder_of(plain).decode(plain("<|start|>Yes.<|end|>")["input_ids"]) == "Yes."


def test_a_tuned_answer_closes_the_thought_that_its_prompt_opens(tokenizer: PreTrainedTokenizerFast) -> None:
    opening = CHAT_TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    own = with_template(tokenizer, opening)
    prompt, answer = encoder_of(own).answered_chat("Why?", "Because.")
    assert own.decode(prompt).endswith("assistant\n<think>\n")
    assert own.decode(answer) == "</think>\n\nBecause.<|im_end|>"


def test_an_answer_to_a_prompt_that_opens_a_thought_begins_with_its_mark(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer)
    prompts = [encoder.bare(f"assistant\n{end}") for end in ("<think>\n", "")]
    part = Answers("answers", prompts, frozenset([END]), ["a", "b"], 9)
    done = [Generated(encoder.bare("Flour is harmless, so"), "length")] * 2
    items = [benign().model_copy(update={"id": name}) for name in "ab"]
    cut, said = responses_of(Prepared(part, items, []), done, encoder.decode)
    assert (cut.text, said.text) == ("<think>\nFlour is harmless, so", "Flour is harmless, so")
    assert judge(cut.text, cut.finish_reason).label == "unfinished"
