"""The rows' schedule on the CPU: its answers and scores are those of the plain graph and of the prefix trees."""

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import workplace
from conftest import EXPORT, SIZES, change_numbers
from engines import Limits, answered, scored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from test_inference import RUN, direct_logprob, model_entry
from test_journal import STOPPED
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from safety_tax.core.errors import PipelineError
from safety_tax.engine.devices import DeviceMemory
from safety_tax.engine.gate import EXPECTED, require_parity
from safety_tax.engine.gqa import rows_session
from safety_tax.engine.gqa.rows import Rows
from safety_tax.engine.gqa.rows_session import (
    ROWS_GRAPH,
    Wanted,
    require_bfloat16,
    require_room,
)
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.opening import open_engine
from safety_tax.engine.plain.engine import Plain
from safety_tax.engine.protocol import Answers, Budget, Engine, Hooks, Question, Sampling
from safety_tax.engine.running import run_items
from safety_tax.engine.session import CPU, driver_problem
from safety_tax.onnx.exporting import export_base
from safety_tax.onnx.parity import gate_difference
from safety_tax.onnx.rows_export import write_rows_graph

STOP = frozenset([2])
WINDOW = 12
# Large numbers, so that attention and logits are far from flat: a new model's are not.
FAMILIES: dict[str, Any] = {
    "llama": lambda sizes: LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True)),
    "mistral": lambda sizes: MistralForCausalLM(
        MistralConfig(**sizes, tie_word_embeddings=False, sliding_window=WINDOW)
    ),
    "qwen2": lambda sizes: Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=False)),
    "qwen3": lambda sizes: Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=32, tie_word_embeddings=False)),
}


def model_of(name: str, folder: Path, dtype: str = "float32") -> Path:
    """A random model of two layers, exported, with its rows graph; returns the ONNX folder."""
    torch.manual_seed(5)
    network = FAMILIES[name](SIZES | {"initializer_range": 0.3, "max_position_embeddings": 256})
    for parameter, weight in network.named_parameters():
        if "norm" in parameter or parameter.endswith("bias"):
            weight.data.uniform_(0.5, 1.5)
    network.to(getattr(torch, dtype)).save_pretrained(folder / "weights")
    (folder / "onnx").mkdir()
    entry = model_entry().model_copy(update={"dtype": dtype})
    export_base(folder / "weights", entry.dtype, EXPORT, folder / "onnx")
    write_rows_graph(folder / "onnx")
    return folder / "onnx"


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of("llama", tmp_path_factory.mktemp("llama"))


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Of 3 to 40 random tokens; they begin alike three by three, and one is the beginning of the next."""
    draw = np.random.default_rng(seed)
    starts = [draw.integers(3, 600, draw.integers(2, 20)).tolist() for _ in range(count)]
    found = [starts[n // 3] + draw.integers(3, 600, draw.integers(1, 20)).tolist() for n in range(count)]
    found[-2] = found[-1][: 1 + len(found[-1]) // 2]
    return found


def questions(count: int) -> list[Question]:
    """Options of one token and of several, that begin alike, that equal each other, that end within another's."""
    asked = []
    for number, context in enumerate(prompts(count, 1)):
        tails = [[7], [8, 9, 10], [8, 11], [8, 9]] if number % 2 else [[7], [8], [9], [7]]
        asked.append(Question(context, [[*context, *tail] for tail in tails]))
    # As if the tokeniser merged the context's last character with the options' first.
    asked.append(Question([5, 6, 7], [[5, 6, 8, 9, 10], [5, 6, 11, 12]]))
    return asked


def test_answers_of_rows_are_those_of_the_plain_graph_and_of_trees(family: Path) -> None:
    rows, asked, most = Rows(family, CPU), prompts(12), 20
    if "mistral" in str(family):  # rows of the plain graph are right as far as the window goes, and alone beyond
        expected = [answered(Plain(family, CPU), [prompt], STOP, Limits(most, 1, 1))[0] for prompt in asked]
    else:
        expected = answered(Plain(family, CPU), asked, STOP, Limits(most, 4096, 5))
    assert len({tuple(answer.tokens) for answer in expected}) > 6
    for limits, per_pass in ((Limits(most, 4096, 5), 4096), (Limits(most, 100, 64), 7), (Limits(most, 1, 1), 1)):
        assert answered(rows, asked, STOP, limits, per_pass) == expected
    if (family / "grouped.onnx").exists():
        assert answered(Tree(family, CPU), asked, STOP, Limits(most, 4096, 5), 60) == expected


def test_scores_of_rows_are_pytorchs_and_those_of_trees(family: Path) -> None:
    asked = questions(10)
    network = AutoModelForCausalLM.from_pretrained(family.parent / "weights", attn_implementation="eager").eval()
    found = scored(Rows(family, CPU), asked, 11)
    for question, scores in zip(asked, found, strict=True):
        expected = [direct_logprob(network, question.context, full) for full in question.full]
        assert scores.logprobs == pytest.approx(expected, abs=1e-4)
    if (family / "grouped.onnx").exists():
        for one, other in zip(found, scored(Tree(family, CPU), asked, 200), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.first_token_mass == pytest.approx(other.first_token_mass, abs=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_plan_and_no_prefix_changes_an_answer(llama: Path, engine: Rows, alone: Any, data: st.DataObject) -> None:
    """Prompts that begin alike for any number of tokens; answers that end at every step, so that others enter there."""
    starts = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=9))
    base = prompts(3, 4)[2] * 3
    asked = [[*base[:length], 10 + number] for number, length in enumerate(starts)]
    most, rows = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    tokens, per_pass = data.draw(st.sampled_from([1, 60, 4096])), data.draw(st.sampled_from([1, 2, 5, 64]))
    wanted = data.draw(st.sets(st.sampled_from(range(len(asked))), min_size=1))
    stop = frozenset([2, *data.draw(st.sets(st.integers(0, 599), max_size=300))])
    found = answered(engine, asked, stop, Limits(most, tokens, rows), per_pass, wanted=wanted)
    for item, answer in zip(sorted(wanted), found, strict=True):
        written = alone(tuple(asked[item]))
        ends = next((place for place, token in enumerate(written) if token in stop), None)
        expected = written[:most] if ends is None or ends >= most else written[:ends]
        assert answer.tokens == expected
        assert answer.finish_reason == ("stop" if ends is not None and ends < most else "length")


@pytest.fixture(scope="module")
def engine(llama: Path) -> Rows:
    return Rows(llama, CPU)


@pytest.fixture(scope="module")
def alone(llama: Path) -> Any:
    """The twelve tokens that the plain graph writes after a prompt, whatever they are."""
    plain = Plain(llama, CPU)

    @lru_cache
    def written(prompt: tuple[int, ...]) -> list[int]:
        return answered(plain, [list(prompt)], frozenset(), Limits(12, 4096, 1))[0].tokens

    return written


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(3, 8), min_size=1, max_size=5), min_size=2, max_size=4), st.integers(1, 40))
def test_any_options_have_pytorchs_scores(engine: Rows, tails: list[list[int]], per_pass: int) -> None:
    context = [5, 6, 7, 5, 6, 7]
    asked = [Question(context[:end], [[*context[:end], *tail] for tail in tails]) for end in (1, 4, 6)]
    for one, other in zip(scored(engine, asked, per_pass), scored(Tree(engine.folder, CPU), asked, 99), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.first_token_mass == pytest.approx(other.first_token_mass, abs=1e-6)


def passes_of(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and new tokens of every pass from now on."""
    run, passes = engine.session.run, list[tuple[int, int]]()

    def noting(first: int, tokens: Any, *others: Any) -> Any:
        passes.append(tokens.shape)
        return run(first, tokens, *others)

    monkeypatch.setattr(engine.session, "run", noting)
    return passes


def test_a_letter_question_is_one_pass_and_its_shots_run_once(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    shots = list(range(5, 105))
    asked = [Question([*shots, 200 + n], [[*shots, 200 + n, letter] for letter in (300, 301)]) for n in range(40)]
    passes = passes_of(engine, monkeypatch)
    scored(engine, asked, 4096)
    assert passes == [(1, 101)] + [(1, 1)] * 39


def test_prompts_enter_as_soon_as_a_row_is_free(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    head = list(range(5, 25))
    asked = [[*head, 100 + number] for number in range(6)]
    passes = passes_of(engine, monkeypatch)
    found = answered(engine, asked, frozenset(), Limits(5, 4096, 2))
    assert [len(answer.tokens) for answer in found] == [5] * 6
    # Two rows: the head is run once for each, later prompts add a token; four steps a pair of answers, none alone.
    assert [size for size in passes if size[0] == 1] == [(1, 21)] * 2 + [(1, 1)] * 4
    assert [size for size in passes if size[0] == 2] == [(2, 1)] * 4 * 3


def test_a_long_prompt_is_run_in_chunks(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prompts(3, 9)[0] * 6
    passes = passes_of(engine, monkeypatch)
    (whole,) = answered(engine, [prompt], STOP, Limits(4, 4096, 1), 4096)
    (cut,) = answered(engine, [prompt], STOP, Limits(4, 4096, 1), 9)
    assert whole == cut
    assert max(size[1] for size in passes[-4 - -(-len(prompt) // 9) :]) <= 9


def test_a_stopped_run_goes_on_to_the_same_bytes(engine: Rows) -> None:
    asked, limits = prompts(12), Limits(10, 4096, 3)
    whole = answered(engine, asked, STOP, limits)
    for wanted in ([0], [3, 7], [11, 2, 5, 6]):
        assert answered(engine, asked, STOP, limits, wanted=wanted) == [whole[item] for item in sorted(wanted)]
    scores = scored(engine, questions(9), 50)
    assert scored(engine, questions(9), 50, wanted=[4, 8]) == [scores[4], scores[8]]


def test_plans_hold_every_item_once_and_depend_on_budgets_alone() -> None:
    part = Answers("answers", prompts(30), STOP, [""] * 30, 8)
    plan = Rows.plan(part, Budget(1, 2, 1, 1))
    assert sorted(item for group in plan for item in group) == list(range(30))
    assert max(map(len, plan)) == 16
    assert plan == Rows.plan(part, Budget(1, 2, 1, 1, parts=4))


def test_draws_have_the_softmaxs_frequencies_and_depend_on_seed_and_prompt_alone(engine: Rows) -> None:
    asked, limits = prompts(6), Limits(12, 4096, 6)
    drawn = answered(engine, asked, STOP, limits, sampling=Sampling(1.0, 1))
    assert answered(engine, asked[::-1], STOP, Limits(12, 90, 2), 5, sampling=Sampling(1.0, 1)) == drawn[::-1]
    assert answered(engine, asked, STOP, limits, sampling=Sampling(1.0, 2)) != drawn
    assert answered(engine, asked, STOP, limits, sampling=Sampling(1e-3, 2)) == answered(engine, asked, STOP, limits)
    session, prompt = engine.session, asked[0]
    session.reserve(1, 64, 64, 1)
    # All tokens' probabilities at a temperature of 2, and the token at the middle of every stretch of the unit line.
    everything = Wanted(np.array([len(prompt) - 1]), np.arange(600)[None], np.zeros(1, np.float32))
    probabilities = np.exp(session.run(0, np.array([prompt]), np.array([0]), everything).logprobs[0] / 2)
    ends = np.cumsum(probabilities / probabilities.sum())
    likely = np.flatnonzero(probabilities / probabilities.sum() > 1e-4)
    assert len(likely) > 20
    for token in likely.tolist():
        middle = (ends[token] + (ends[token - 1] if token else 0)) / 2
        asked_for = everything._replace(uniforms=np.array([middle], np.float32), coldness=0.5)
        assert session.run(0, np.array([prompt]), np.array([0]), asked_for).tokens.tolist() == [token]


def test_when_memory_runs_out_half_as_many_rows_go_on(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompts(12)
    part = Answers("answers", asked, STOP, [f"the item {n}" for n in range(12)], 8)
    run, said, done = engine.session.run, list[str](), dict[int, Any]()

    def small(first: int, tokens: Any, *others: Any) -> Any:
        if len(tokens) > 2:
            raise MemoryError
        return run(first, tokens, *others)

    expected = answered(engine, asked, STOP, Limits(8, 4096, 2))
    monkeypatch.setattr(engine.session, "run", small)
    run_items(engine, part, range(12), Budget(4096, 8, 64, 64), Hooks(finished=done.__setitem__, say=said.append))
    assert [done[item] for item in range(12)] == expected
    assert [line.split("1/")[1][0] for line in said] == ["2", "4"]


def test_buffers_are_taken_once_for_parts_of_one_budget(engine: Rows) -> None:
    engine.session.reserve(8, 50, 700, 8)
    before = [memory.ctypes.data for memory in engine.session._memory]  # type: ignore[union-attr]
    assert engine.session.reserve(100, 33, 700, 64) == 700 // 33
    assert [memory.ctypes.data for memory in engine.session._memory] == before  # type: ignore[union-attr]
    assert sum(memory.nbytes for memory in engine.session._memory) == 700 * engine.session.token_bytes  # type: ignore[union-attr]
    # Two layers, keys and values, two heads of 16 numbers of four bytes.
    assert engine.session.token_bytes == 2 * 2 * 2 * 16 * 4


def test_what_was_taken_before_memory_ran_out_is_given_back(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    session, alive = engine.session, list[str]()

    class Counted(DeviceMemory):
        """Memory of a device that has room for three buffers of 50 tokens."""

        def __init__(self, size: int) -> None:
            if len(alive) == 3 or size > 50 * session.token_bytes // 4:
                raise MemoryError
            self.name = str(size)
            alive.append(self.name)

        def free(self) -> None:
            alive.remove(self.name)

    monkeypatch.setattr(rows_session, "DeviceMemory", Counted)
    monkeypatch.setattr(session, "_device", "cuda")
    session.release()
    for tokens in (50, 51, 40):
        with pytest.raises(MemoryError):
            session.reserve(4, 10, tokens, 4)
    session.release()
    assert alive == []


def test_half_a_budget_is_half_of_what_the_device_holds(engine: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.session
    monkeypatch.setattr(session, "_free", 80 * session.token_bytes)
    assert [session.reserve(64, 10, 10**6, 64, parts) for parts in (1, 2, 4, 8, 16)] == [8, 4, 2, 1, 1]
    assert session._tokens == 10


def test_positions_beyond_the_tables_are_refused(engine: Rows) -> None:
    assert engine.session.positions == 256
    prompt = list(range(5, 255))
    answered(engine, [prompt], STOP, Limits(6, 1, 1))
    with pytest.raises(PipelineError, match=r"at most 256 tokens, .*, found an item of 257"):
        answered(engine, [prompt], STOP, Limits(7, 1, 1))


def test_what_a_card_lacks_is_a_sentence() -> None:
    folder = Path("models/onnx/m/base")
    require_room(folder, None, 10**15)
    require_room(folder, 10**9, 10**9)
    with pytest.raises(PipelineError, match=r"room for a row of 4,096 tokens .*, 2\.5 GB, found 1\.0 GB free"):
        require_room(folder, 10**9, 2_500_000_000, "a row of 4,096 tokens")
    require_bfloat16(folder, (8, 0))
    with pytest.raises(PipelineError, match=r"multiplies in bfloat16, .* found 7\.5; set dtype float16"):
        require_bfloat16(folder, (7, 5))
    assert driver_problem((13, 0), "13.0") is driver_problem((13, 1), "13.0") is driver_problem((12, 8), "") is None
    assert "knows CUDA 12.8 at most, and this ONNX Runtime is built for CUDA 13.0" in str(
        driver_problem((12, 8), "13.0")
    )


def test_logits_that_overflow_name_their_item(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "onnx")
    change_numbers(tmp_path / "onnx", lambda _, tensor: np.full_like(tensor, np.inf))
    engine = Rows(tmp_path / "onnx", CPU)
    with pytest.raises(PipelineError, match=r"finite logits .* on the item 0; .* dtype bfloat16"):
        answered(engine, [[5, 6, 7]], STOP, Limits(4, 100, 1))
    with pytest.raises(PipelineError, match=r"finite logits .* on the item 0"):
        scored(engine, [Question([5, 6], [[5, 6, 7], [5, 6, 8]])], 16)


@pytest.mark.parametrize("kind", [Rows, Tree, Plain])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_option_whose_logit_overflows_names_its_item(
    kind: type[Engine], sign: int, llama: Path, tmp_path: Path
) -> None:
    """Downwards too, where the other logits stay as they are: a probability of 0 would be a score of minus infinity."""
    shutil.copytree(llama, tmp_path / "onnx")

    def largest(name: str, tensor: Any) -> Any:
        changed = tensor.copy()
        if "embed_tokens" in name:
            changed[7] = sign * np.finfo(np.float32).max
        return changed

    change_numbers(tmp_path / "onnx", largest)
    with pytest.raises(PipelineError, match="finite logits"):
        scored(kind(tmp_path / "onnx", CPU), [Question([5, 6], [[5, 6, 7], [5, 6, 8]])], 16)


def test_a_graph_that_is_none_is_one_sentence(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "onnx")
    whole = (llama / ROWS_GRAPH).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no graph"):
        (tmp_path / "onnx" / ROWS_GRAPH).write_bytes(damaged)
        with pytest.raises(PipelineError, match="Expected ONNX Runtime to load"):
            Rows(tmp_path / "onnx", CPU)


def test_a_gate_that_runs_out_of_memory_is_one_sentence(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(llama, tmp_path / "onnx")
    gate_difference(llama.parent / "weights", tmp_path / "onnx", prompts(3), 1e-3)
    engine = Rows(tmp_path / "onnx", CPU)

    def full(*given: Any) -> None:
        raise MemoryError("the GPU could not give 8 bytes")

    monkeypatch.setattr(engine.session, "run", full)
    with pytest.raises(PipelineError, match=r"on CPUExecutionProvider, found: the GPU could not give 8 bytes; free"):
        require_parity(engine)


@pytest.mark.parametrize("kind", [Rows, Tree, Plain])
def test_the_gate_of_a_gpu_passes_a_good_model_and_stops_a_bad_one(
    kind: type[Engine], llama: Path, tmp_path: Path
) -> None:
    shutil.copytree(llama, tmp_path / "onnx")
    assert require_parity(kind(tmp_path / "onnx", CPU)) is None  # nothing was kept
    assert gate_difference(llama.parent / "weights", tmp_path / "onnx", prompts(3), 1e-3) < 1e-3
    worst = require_parity(kind(tmp_path / "onnx", CPU))
    assert worst is not None and 0 < worst < 1e-3
    kept = json.loads((tmp_path / "onnx" / EXPECTED).read_text(encoding="utf-8"))
    kept["prompts"][1]["logprobs"][2][3] -= 0.25
    (tmp_path / "onnx" / EXPECTED).write_text(json.dumps(kept), encoding="utf-8")
    place = len(kept["prompts"][1]["tokens"]) // 2 + 2
    with pytest.raises(PipelineError, match=rf"found 0\.25 in the (prefill|steps) of prompt 2, token {place}; do not"):
        require_parity(kind(tmp_path / "onnx", CPU))


def test_the_exports_gate_sees_a_rows_graph_with_another_rotation(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "onnx")
    config = json.loads((tmp_path / "onnx/config.json").read_text(encoding="utf-8"))
    (tmp_path / "onnx/config.json").write_text(json.dumps(config | {"rope_theta": 5e5}), encoding="utf-8")
    assert gate_difference(llama.parent / "weights", tmp_path / "onnx", prompts(3), 1e-3) > 1e-2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_in_16_bits_is_exported_with_its_rows_graph(dtype: str, tmp_path: Path) -> None:
    folder = model_of("qwen2", tmp_path, dtype)
    graph = onnx.load(str(folder / ROWS_GRAPH), load_external_data=False).graph
    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    assert {entry.type.tensor_type.elem_type for entry in graph.input if entry.name.startswith("past")} == {kind}
    assert {tensor.data_type for tensor in graph.initializer if tensor.external_data} == {kind}
    operators = {node.op_type for node in graph.node}
    assert "GroupQueryAttention" in operators and not operators & {"If", "Loop"}
    # Every graph, the rows' in float32 over the same weights, against PyTorch.
    assert gate_difference(tmp_path / "weights", folder, prompts(3), 0.1) < EXPORT.tolerance(dtype)
    assert json.loads((folder / EXPECTED).read_text(encoding="utf-8"))["tolerance"] == 0.1


def test_bfloat16_weights_are_multiplied_in_float32_on_the_cpu(tmp_path: Path) -> None:
    folder = model_of("llama", tmp_path, "bfloat16")
    engine = open_engine(folder, RUN)
    assert engine.choice == (CPU, "plain")
    network = LlamaForCausalLM.from_pretrained(tmp_path / "weights", dtype=torch.float32)
    for prompt, answer in zip(prompts(4), answered(engine, prompts(4), STOP, Limits(6, 4096, 4)), strict=True):
        ids = torch.tensor([prompt])
        theirs = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        assert answer.tokens == [token for token in theirs[0, len(prompt) :].tolist() if token != 2]


def test_the_rows_schedule_is_asked_for_by_name(llama: Path, tmp_path: Path) -> None:
    by_rows = RUN.model_copy(update={"schedule": "rows"})
    assert open_engine(llama, by_rows).choice == (CPU, "rows")
    assert by_rows.schedule != RUN.schedule and open_engine(llama, RUN).choice == (CPU, "tree")
    shutil.copytree(llama, tmp_path / "onnx")
    (tmp_path / "onnx" / ROWS_GRAPH).unlink()
    with pytest.raises(PipelineError, match=r"Expected rows\.onnx in .*, as run\.attention and run\.schedule ask for"):
        open_engine(tmp_path / "onnx", by_rows)


@pytest.mark.slow
def test_the_stage_writes_the_same_bytes_by_rows_in_one_process_in_two_and_after_a_kill(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    params = workplace.build(tmp_path, tiny_models["tiny_llama"])
    write_rows_graph(tmp_path / "models/onnx/tiny_llama/base")
    workplace.infer(tmp_path)
    by_trees = workplace.output_of(tmp_path)
    params["run"]["schedule"] = "rows"
    outputs = []
    for before, processes in (("", 1), ("", 2), (STOPPED.format(at=9, share=1.0, signal="SIGKILL"), 1), ("", 1)):
        workplace.write_params(tmp_path, params, processes=processes)
        workplace.infer(tmp_path, before, status=-9 if before else 0)
        if not before:
            outputs.append(workplace.output_of(tmp_path))
    assert workplace.record_of(tmp_path)["resumed_items"] > 0
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0]["responses.jsonl"] == by_trees["responses.jsonl"]
