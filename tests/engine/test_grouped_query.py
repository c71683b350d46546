"""The grouped-query graph, its trees of tokens and its continuous batches, against PyTorch and against themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import EXPORT, SIZES, change_numbers, fit_to_answers
from engines import Limits, answered, scored
from numpy.typing import NDArray
from pydantic import ValidationError
from test_inference import RUN, direct_logprob, prompts_of, questions
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import continuation_prompt, letter_prompt
from safety_tax.engine.batches import Int64
from safety_tax.engine.choosing import Chooser
from safety_tax.engine.gqa.prefix_tree import Unit, packs
from safety_tax.engine.gqa.session import (
    ATTENTION_BIAS,
    BLOCKS,
    GROUPED_GRAPH,
    Block,
    Cache,
    cut_into,
    passes,
)
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.opening import open_engine
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Question, Sampling
from safety_tax.engine.session import CPU, Float
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.grouped_query import ROOM, grouped_logits, use_grouped_query_attention
from safety_tax.onnx.parity import onnx_logits, worst_difference
from safety_tax.settings.stages import Run

STOP = frozenset([2])


@pytest.fixture(scope="module")
def windowed(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral that sees 12 tokens back, fewer than its prompts have."""
    torch.manual_seed(7)
    model = MistralForCausalLM(MistralConfig(**SIZES, tie_word_embeddings=False, sliding_window=12))
    fit_to_answers(model, tokenizer, steps=40)
    folder = tmp_path_factory.mktemp("windowed")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_mistral", "tiny_qwen2", "windowed"])
def exported(
    request: pytest.FixtureRequest,
    tiny_models: dict[str, Path],
    windowed: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """(weights folder, ONNX folder) of one architecture."""
    weights = windowed if request.param == "windowed" else tiny_models[request.param]
    folder = tmp_path_factory.mktemp("onnx")
    export_base(weights, "float32", EXPORT, folder)
    return weights, folder


@pytest.fixture(scope="module")
def llama(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx-llama")
    export_base(tiny_models["tiny_llama"], "float32", EXPORT, folder)
    return folder


def test_both_graphs_agree_on_every_architecture(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = prompts_of(tokenizer, 5)
    if "windowed" in exported[0].name:
        prompts = [prompt[:12] for prompt in prompts]  # the traced graph is right as far as the window goes
    plain, grouped = onnx_logits(exported[1], prompts), grouped_logits(exported[1], prompts)
    assert worst_difference(grouped, plain) < 1e-4
    assert min(map(len, grouped)) > 1


def test_generation_equals_transformers_token_for_token(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    weights, onnx_folder = exported
    prompts = prompts_of(tokenizer, 12)
    ours = answered(Tree(onnx_folder, CPU), prompts, STOP, Limits(20, 4096, 5), 60)
    network = AutoModelForCausalLM.from_pretrained(weights, attn_implementation="eager")
    for prompt, generated in zip(prompts, ours, strict=True):
        theirs = network.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, pad_token_id=2)
        tokens = theirs[0, len(prompt) :].tolist()
        stopped = tokens[-1] == 2
        assert generated.tokens == (tokens[:-1] if stopped else tokens)
        assert generated.finish_reason == ("stop" if stopped else "length")


def test_option_scores_equal_pytorchs_on_the_full_text(
    exported: tuple[Path, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    weights, onnx_folder = exported
    network = AutoModelForCausalLM.from_pretrained(weights, attn_implementation="eager").eval()

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    texts = [(continuation_prompt(q), [f" {c}" for c in q.choices or []]) for q in questions(6)]
    texts.append(("Question: which?\nAnswer:", [" the same start one", " the same start two", " a"]))
    asked = [Question.encoded(context, options, encode) for context, options in texts]
    shots = encode(" ".join(text for text, _ in texts))[:50]
    asked += [Question([*shots, *q.context], [[*shots, *full] for full in q.full]) for q in asked[:3]]
    # As if the tokeniser merged the context's last character with the options' first.
    asked.append(Question([5, 6, 7], [[5, 6, 8, 9, 10], [5, 6, 11, 12]]))
    for tokens_per_pass in (1, 90, 4096):
        found = scored(Tree(onnx_folder, CPU), asked, tokens_per_pass)
        for question, scores in zip(asked, found, strict=True):
            expected = [direct_logprob(network, question.context, full) for full in question.full]
            assert scores.logprobs == pytest.approx(expected, abs=1e-4)


def test_both_ways_give_the_same_scores_and_masses(llama: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    asked = [Question.encoded(letter_prompt(q), [" A", " B"], tokenizer.encode) for q in questions(6)]
    pairs = zip(scored(Tree(llama, CPU), asked, 200), scored(Plain(llama, CPU), asked, 512, 8), strict=True)
    for one, other in pairs:
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.first_token_mass == pytest.approx(other.first_token_mass, abs=1e-6)


def test_no_plan_changes_an_answer(llama: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    session = Tree(llama, CPU)
    prompts = prompts_of(tokenizer, 10)
    (first,) = answered(session, prompts[:1], STOP, Limits(16, 1, 1), 4096)
    stop = frozenset([2, first.tokens[5]])
    alone = [answered(session, [prompt], stop, Limits(16, 1, 1), 4096)[0] for prompt in prompts]
    assert {generated.finish_reason for generated in alone} == {"stop", "length"}  # so rows leave while others wait
    for limits, tokens_per_pass in (
        (Limits(16, 4096, 64), 4096),
        (Limits(16, 4096, 3), 1),
        (Limits(16, 120, 64), 40),
        (Limits(16, 1, 64), 7),
    ):
        assert answered(session, prompts, stop, limits, tokens_per_pass) == alone
    assert answered(session, prompts[::-1], stop, Limits(16, 4096, 64), 100) == alone[::-1]
    # Nothing in common at the start.
    assert answered(session, [prompts[0][3:], prompts[1]], stop, Limits(16, 4096, 8), 99)[1] == alone[1]


def test_items_that_fit_the_context_run_in_packs_that_do_not(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    with pytest.raises(ValidationError, match="pass_tokens"):
        Run(**RUN.model_dump() | {"pass_tokens": ROOM + 1})
    short = LlamaForCausalLM(LlamaConfig(**SIZES | {"max_position_embeddings": 64}, tie_word_embeddings=True))
    short.save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    (tmp_path / "onnx").mkdir()
    export_base(tmp_path / "short", "float32", EXPORT, tmp_path / "onnx")
    session, limits = Tree(tmp_path / "onnx", CPU), Limits(4, 4096, 64)
    prompts = [[5 + n, *range(40, 99)] for n in range(20)]
    assert len(prompts[0]) + limits.max_new_tokens == 64
    alone = [answered(session, [prompt], STOP, limits, 1)[0] for prompt in prompts]
    assert answered(session, prompts, STOP, limits, ROOM) == alone
    asked = [
        Question(prompt[:60], [[*prompt[:60], *range(30 * n, 30 * n + 4)] for n in (1, 2, 3)]) for prompt in prompts
    ]
    expected = [scored(session, [question], 1)[0] for question in asked]
    assert scored(session, asked, ROOM) == expected


def test_no_number_of_threads_changes_a_bit(
    llama: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Question.encoded(letter_prompt(q), [" A", " B"], tokenizer.encode) for q in questions(6)]
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr("safety_tax.engine.session.usable_cores", lambda count=count: count)
        session = Tree(llama, CPU)
        assert session.session._session.get_session_options().intra_op_num_threads == count
        written = answered(session, prompts_of(tokenizer, 6), STOP, Limits(16, 4096, 8), 100)
        found.append((written, scored(session, asked, 200)))
    assert found[0] == found[1] == found[2]


def test_a_shared_prefix_is_run_once(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shots = list(range(5, 105))
    asked = [Question([*shots, 200 + n], [[*shots, 200 + n, 300], [*shots, 200 + n, 301]]) for n in range(40)]
    session = Tree(llama, CPU)
    run: list[int] = []
    forward = session.session._run

    def counting(cache: Cache, tokens: Int64, *rest: Any) -> Float:
        run.append(tokens.size)
        return forward(cache, tokens, *rest)

    monkeypatch.setattr(session.session, "_run", counting)
    scored(session, asked, 8)
    assert sum(run) == len(shots) + 40
    assert max(run) <= 8


def test_queries_meet_few_keys_that_they_must_not_see(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [list(range(start, start + 60)) for start in range(5, 365, 60)]
    asked = [Question(text, [[*text, 3], [*text, 4]]) for text in texts]
    session = Tree(llama, CPU)
    sizes: list[tuple[int, ...]] = []
    forward = session.session._run

    def looking(cache: Cache, tokens: Int64, wanted: Int64, inputs: dict[str, NDArray[Any]]) -> Float:
        sizes.extend(array.shape[2:] for name, array in inputs.items() if name.endswith(ATTENTION_BIAS))
        return forward(cache, tokens, wanted, inputs)

    monkeypatch.setattr(session.session, "_run", looking)
    scored(session, asked, 640)
    assert len(sizes) == BLOCKS
    assert sum(tokens for tokens, _ in sizes) == 6 * 60
    assert max(keys for _, keys in sizes) == 1 + 60


def test_a_tree_by_hand() -> None:
    units = [Unit([[1, 2, 3, 4], [1, 2, 3, 5, 6]], 2), Unit([[1, 2, 9]], 2), Unit([[1, 2, 0, 7, 7, 7]], 5)]
    before, pack = packs(units, 5)
    assert (before.prefix, before.tokens) == ([], [1, 2, 0, 7, 7, 7])
    assert pack.prefix == [1, 2]
    assert pack.tokens == [3, 4, 5, 6, 9]
    assert pack.parents == [-1, 0, 0, 2, -1]
    assert pack.depths().tolist() == [0, 1, 1, 2, 0]
    assert pack.paths == [[[0, 1], [0, 2, 3]], [[4]]]
    expected = np.eye(5, dtype=bool)
    expected[[1, 2, 3, 3], [0, 0, 0, 2]] = True
    assert np.array_equal(pack.ancestors(), expected)


def test_packs_hold_every_unit_once_and_keep_to_the_budget() -> None:
    generator = np.random.default_rng(3)
    units = [Unit([generator.integers(0, 3, 6).tolist() for _ in range(3)], 1) for _ in range(30)]
    # Some with a long beginning in common.
    units += [Unit([[1, 1, 1, 1, *generator.integers(0, 9, 3).tolist()]], 6) for _ in range(30)]
    for budget in (1, 12, 25, 1000):
        found = list(packs(units, budget))
        assert sorted(unit for pack in found for unit in pack.units) == list(range(60))
        assert all(len(pack.tokens) <= budget or len(pack.units) == 1 for pack in found)
        assert all(len(pack.tokens) > 1 and len(pack.prefix) != 1 for pack in found)
        trunk: list[int] = []
        for pack in found:
            assert trunk[: len(pack.prefix)] == pack.prefix
            trunk = pack.prefix + [pack.tokens[place] for place in pack.paths[0][0]]
            for unit, paths in zip(pack.units, pack.paths, strict=True):
                assert [pack.prefix + [pack.tokens[p] for p in path] for path in paths] == units[unit].sequences
    assert any(len(pack.prefix) >= 4 for pack in packs(units, 12))


def test_a_unit_joins_only_where_little_is_run_again() -> None:
    shots = list(range(1, 41))
    asked = [Unit([[*shots, 100 * n, 100 * n + 1]], 41) for n in range(1, 31)]
    packed = list(packs([*asked, Unit([[500] * 10], 9)], 50))
    assert [len(pack.prefix) for pack in packed] == [0, 40, 0]
    assert [len(pack.units) for pack in packed] == [5, 25, 1]


def test_passes_are_full_and_cut_off_no_single_token() -> None:
    for sizes in ([1], [3, 1, 5], [2] * 30, [100], [13, 50, 2, 2, 7, 31, 4], [1, 1, 9, 1]):
        blocks = []
        for number, size in enumerate(sizes):
            tokens = list(range(1000 * number, 1000 * number + size))
            blocks.append(Block(tokens, np.arange(5 + size), np.tri(size, dtype=bool), [0, size - 1], True))
        for most in (1, 2, 3, 4, 7, 17, 18, 33, 1000):
            found = list(passes(blocks, most))
            again = [block for group in found for block in group]
            assert [token for block in again for token in block.tokens] == [t for block in blocks for t in block.tokens]
            assert [b.tokens[w] for b in again for w in b.wanted] == [b.tokens[w] for b in blocks for w in b.wanted]
            assert sum(block.ends_pack for block in again) == len(blocks)
            for block in again:
                count = len(block.tokens)
                assert block.at[-count:].tolist() == [5 + token % 1000 for token in block.tokens]
                # Each sees itself and what was before it in its block, nothing else.
                assert block.seen.sum() == sum(1 + token % 1000 for token in block.tokens)
                assert count > 1 or block.tokens[0] % 1000 == 0
            for group in found:
                assert len(group) <= BLOCKS
                assert sum(len(block.tokens) for block in group) <= max(3, most)
                assert len(group) == 1 or min(len(block.tokens) for block in group) > 1
                cut = cut_into(BLOCKS, group)
                assert cut is None or (len(cut) == BLOCKS and min(len(block.tokens) for block in cut) > 1)
    full = [sum(len(block.tokens) for block in group) for group in passes(blocks[:1] + blocks[2:3], 1000)]
    assert full == [1, 9]
    long = Block(list(range(100)), np.arange(100), np.tri(100, dtype=bool), [], True)
    assert [sum(len(b.tokens) for b in group) for group in passes([long, long], 40)] == [40, 40, 40, 40, 40]


def test_a_sampled_answer_depends_on_seed_and_prompt_alone(llama: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = prompts_of(tokenizer, 6)
    session, limits = Tree(llama, CPU), Limits(12, 4096, 64)
    drawn = answered(session, prompts, STOP, limits, 99, Sampling(1.0, 1))
    assert answered(session, prompts[::-1], STOP, Limits(12, 4096, 2), 9, Sampling(1.0, 1)) == drawn[::-1]
    assert answered(Plain(llama, CPU), prompts, STOP, limits, sampling=Sampling(1.0, 1)) == drawn
    assert answered(session, prompts, STOP, limits, 99, Sampling(1.0, 2)) != drawn


def test_draws_have_the_softmaxs_frequencies() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2]], np.float32))
    draw = Chooser(Path("unused"), 1.0, 5)
    counts = np.bincount([int(draw(logits, [[1]], [step])[0]) for step in range(4000)], minlength=3)
    # Four standard errors of a share at n = 4,000.
    assert counts / 4000 == pytest.approx([0.5, 0.3, 0.2], abs=0.032)
    cold = Chooser(Path("unused"), 0.05, 5)
    assert {int(cold(logits, [[1]], [step])[0]) for step in range(50)} == {0}


def test_the_graph_is_chosen_openly(llama: Path, tmp_path: Path) -> None:
    plain = RUN.model_copy(update={"attention": "plain"})
    grouped = RUN.model_copy(update={"attention": "grouped_query"})
    assert open_engine(llama, RUN).choice == (CPU, "tree")
    assert open_engine(llama, plain).choice == (CPU, "plain")
    for file in llama.iterdir():
        if file.name != GROUPED_GRAPH:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert open_engine(tmp_path, RUN).choice == (CPU, "plain")
    with pytest.raises(PipelineError, match=r"Expected grouped\.onnx in .*, as run\.attention"):
        open_engine(tmp_path, grouped)


def test_broken_weights_raise_and_do_not_answer(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change_numbers(tmp_path, lambda _, tensor: tensor * np.nan)
    session = Tree(tmp_path, CPU)
    with pytest.raises(PipelineError, match="finite logits"):
        answered(session, [[5, 6, 7]], STOP, Limits(4, 100, 1), 16)
    with pytest.raises(PipelineError, match="finite logits"):
        scored(session, [Question([5, 6], [[5, 6, 7], [5, 6, 8]])], 16)


def test_another_architecture_is_one_sentence(llama: Path) -> None:
    from transformers import AutoConfig

    graph = onnx.load(str(llama / "model.onnx"), load_external_data=False)
    for node in graph.graph.node:
        node.name = node.name.replace("o_proj", "c_proj")
    with pytest.raises(PipelineError, match=r"set export\.grouped_query to false"):
        use_grouped_query_attention(graph, AutoConfig.from_pretrained(llama))
