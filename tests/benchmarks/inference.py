"""How fast are answers and scores?  `python -m tests.benchmarks.inference [PART …] [--repeats N] [--provider cuda]`

After `dvc repro`, on the base. Parts, all by default:
- `answers`: 150 prompts, 48 new tokens, against Transformers' `generate` and Optimum's at their best batch sizes.
- `letter`, `continuation`: MMLU questions; `few_shot`: 5-shot letter, 20 questions in each of 10 subjects. Against
  lm-evaluation-harness (hf backend, its best batch size) where LM_EVAL_PYTHON names the Python of an environment that
  has it.
- `growth`: seconds at a quarter, half and all of the items.
With `--provider cuda` the model runs in float16, in which a float32 base is exported first, as does `generate`.
Ways take turns in each repeat. Medians, ratios and the share of the machine's float32 matrix rate (not on CUDA) are
printed and kept in `metrics/benchmarks/inference.json`, each part on its own. Exit status 1 when
two ways disagree beyond ties.
"""

import argparse
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from safety_tax.core.console import run_stage, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import continuation_prompt, continuations, letter_prompt, letters
from safety_tax.core.rows import PROMPT, ChatPrompt, ChoiceQuestion, read_rows
from safety_tax.core.workspace import TUNING_PROMPTS
from safety_tax.engine.batches import shared_length
from safety_tax.engine.gqa.tree import Tree
from safety_tax.engine.opening import open_engine
from safety_tax.engine.preparing import encoded
from safety_tax.engine.protocol import Answers, Budget, Hooks, Question, Questions
from safety_tax.engine.session import CPU, CUDA, choose_provider
from safety_tax.onnx.exporting import export_base
from safety_tax.params import load_params
from safety_tax.tokens.encoder import Encoder
from tests.benchmarks.pairing import Race, fastest, gemm_rate, operations, race, report, timed
from tests.benchmarks.results import keep
from tests.benchmarks.rivals import Asked, Harness, gap_at_difference, optimum_model
from tests.benchmarks.rivals import generate as their_generate

BENCHMARKS = Path("data/benchmarks")
PARTS = ("answers", "letter", "continuation", "few_shot", "growth")
SHOTS, SUBJECTS, OF_SUBJECT = 5, 10, 20
TIE = 1e-3
"""Logits, or nats of an option's score, within which two ways may choose differently; in float16, where a logit of 16
to 32 has steps of 0.016, what `export.parity_tolerance_float16` grants."""
STEPS = 3
"""That decoding is timed for, between two matrix rates."""


class Bench:
    """The model and the items, and this project's own ways."""

    def __init__(self, model: str, provider: str, items: int, scratch: Path) -> None:
        params = load_params()
        self.name, self.run, self.most = model, params.run, params.infer.max_new_tokens.harmful
        self.weights, self.folder = Path("models/base") / model, Path("models/onnx") / model / "base"
        self.provider = choose_provider("cuda" if provider == "cuda" else "cpu")
        if self.provider == CUDA and params.model(model).dtype != "float16":
            self.folder = scratch / "float16"
            self.folder.mkdir()
            export_base(self.weights, "float16", params.export, self.folder)
        self.tie = params.export.tolerance("float16") if self.provider == CUDA else TIE
        self.encoder = Encoder.open(self.folder, model, params.prompting.date)
        self.tokenizer = self.encoder.tokenizer
        self.config = AutoConfig.from_pretrained(self.folder)
        provider = "cuda" if self.provider == CUDA else "cpu"
        self.engine = open_engine(self.folder, self.run.model_copy(update={"provider": provider}))
        self.budget = Budget.of(self.run)
        harmful = read_rows(BENCHMARKS / "harmful.jsonl", ChatPrompt)[:items]
        self.prompts = [self.encoder.chat(prompt.text) for prompt in harmful]
        self.questions = read_rows(BENCHMARKS / "choice.jsonl", ChoiceQuestion)[:items]
        self.stop = int(self.tokenizer.eos_token_id)

    def answers(self, prompts: list[list[int]]) -> list[list[int]]:
        """As stage `infer` makes them, for `max_new_tokens.harmful`."""
        part = Answers("answers", prompts, frozenset([self.stop]), [""] * len(prompts), self.most)
        done = dict(self.engine.generate(part, range(len(prompts)), self.budget, Hooks()))
        return [done[item].tokens for item in range(len(prompts))]

    def tokens(self, asked: Sequence[Asked]) -> list[Question]:
        """Contexts and options as token ids."""
        return encoded([(one.context, [f" {choice}" for choice in one.choices]) for one in asked], self.encoder)

    def scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        """As stage `infer` makes them, tokenising included."""
        part = Questions("questions", self.tokens(asked), [""] * len(asked))
        done = dict(self.engine.score(part, range(len(asked)), self.budget, Hooks()))
        return [done[item].logprobs for item in range(len(asked))]


def asked_in(part: str, questions: list[ChoiceQuestion]) -> list[Asked]:
    """The part's questions, as text."""
    shots: dict[str, list[ChoiceQuestion]] = defaultdict(list)
    if part == "few_shot":
        everything = read_rows(BENCHMARKS / "choice.jsonl", PROMPT) + read_rows(TUNING_PROMPTS, PROMPT)
        of_group: dict[str, list[ChoiceQuestion]] = defaultdict(list)
        for question in everything:
            if isinstance(question, ChoiceQuestion):
                of_group[question.group].append(question)
        large = [group for group in sorted(of_group) if len(of_group[group]) >= SHOTS + OF_SUBJECT][:SUBJECTS]
        questions = [question for group in large for question in of_group[group][:OF_SUBJECT]]
        shots |= {group: of_group[group][OF_SUBJECT : OF_SUBJECT + SHOTS] for group in large}
    if part == "continuation":
        texts = [(continuation_prompt(question), continuations(question)) for question in questions]
    else:
        texts = [(letter_prompt(question, shots[question.group]), letters(question)) for question in questions]
    return [
        Asked(context, [option[1:] for option in options], question.gold)
        for (context, options), question in zip(texts, questions, strict=True)
    ]


def needed_operations(config: Any, questions: Sequence[Question]) -> float:
    """Of scoring: each distinct token once, after what comes before it, and a logit row where one is scored."""
    sequences = sorted({tuple(full[:-1]) for question in questions for full in question.full})
    scored = {
        tuple(full[:place])
        for question in questions
        for full in question.full
        for place in range(len(question.context), len(full))
    }
    contexts = [np.arange(len(sequences[0])) + 1]
    contexts += [np.arange(shared_length(one, other), len(other)) + 1 for one, other in pairwise(sequences)]
    return operations(config, np.concatenate(contexts), len(scored))


def decoding_share(bench: Bench, rows: int) -> dict[str, float]:
    """Steps at full batch, half of the new tokens written: tokens a second, and the share of the matrix rate."""
    assert isinstance(bench.engine, Tree)
    session = bench.engine.session
    length = int(statistics.mean(map(len, bench.prompts))) + bench.most // 2
    cache = session.cache(rows, max(map(len, bench.prompts)) + bench.most)
    tokens, lengths = np.arange(rows, dtype=np.int64) + 100, np.full(rows, length, np.int64)
    steps = race({"steps": lambda: [session.step(cache, tokens, lengths) for _ in range(STEPS)]}, 5, "decoding")
    spent = statistics.median(steps.seconds["steps"]) / STEPS
    share = steps.share("steps", STEPS * operations(bench.config, lengths + 1, rows))
    say(f"decoding, {rows} rows of {length} tokens: {rows / spent:.0f} tokens/s, {share:.1%} of the matrix rate")
    return {"rows": rows, "tokens/s": round(rows / spent, 1), "share_of_matrix_rate": round(share, 3)}


def answers_part(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """This project's answers against `generate`."""
    dtype = torch.float16 if bench.provider == CUDA else torch.float32
    device = "cuda" if bench.provider == CUDA else "cpu"
    network: Any = AutoModelForCausalLM.from_pretrained(bench.weights, dtype=dtype, attn_implementation="sdpa").eval()
    network.to(device)
    rivals = {"transformers": network}
    new_tokens = bench.most
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        if bench.provider == CPU and not arguments.no_optimum:
            rivals["optimum"] = optimum_model(bench.folder, Path(scratch))
        ways: dict[str, Callable[[], Any]] = {"ours": lambda: bench.answers(bench.prompts)}
        probes = bench.prompts[: max(arguments.rows)]
        for name, model in rivals.items():
            rows = fastest(
                name,
                arguments.rows,
                lambda rows, model=model: timed(  # type: ignore[misc]
                    lambda: their_generate(model, probes, bench.stop, new_tokens, rows)
                )[0],
            )
            ways[f"{name}, {rows} rows"] = lambda model=model, rows=rows: their_generate(  # type: ignore[misc]
                model, bench.prompts, bench.stop, new_tokens, rows
            )
        found = race(ways, arguments.repeats, "answers")
    notes, beyond = {}, 0
    for name, theirs in found.results.items():
        pairs = zip(bench.prompts, found.results["ours"], theirs, strict=True)
        gaps = [gap_at_difference(network, *pair, bench.stop) for pair in pairs if pair[1] != pair[2]]
        beyond += sum(gap > bench.tie for gap in gaps)
        notes[name] = f"{len(gaps)}, of them ties {sum(gap <= bench.tie for gap in gaps)}"
    written = sum(map(len, found.results["ours"]))
    result = report(found, f"answers, {len(bench.prompts)} prompts", written, "tokens/s", "ours", notes)
    # What part of a card's rates is reached: `python -m tests.card`.
    shares = {} if bench.provider == CUDA else shares_of_answers(bench, found)
    return {"ways": result, "gemm_gflops": round(found.rate() / 1e9, 1), "beyond_ties": beyond} | shares


def shares_of_answers(bench: Bench, found: Race) -> dict[str, Any]:
    """What part of the matrix rate the whole run reached, and steps alone."""
    answers = found.results["ours"]
    prompts = sorted({tuple(prompt) for prompt in bench.prompts})
    contexts = [np.arange(len(prompts[0])) + 1]
    contexts += [np.arange(shared_length(one, other), len(other)) + 1 for one, other in pairwise(prompts)]
    contexts += [len(p) + np.arange(len(a)) + 1 for p, a in zip(bench.prompts, answers, strict=True)]
    needed = operations(bench.config, np.concatenate(contexts), sum(map(len, answers)))
    whole = found.share("ours", needed)
    say(f"answers as a whole: {whole:.1%} of the matrix rate, {found.rate() / 1e9:.0f} GFLOP/s")
    return {"share_of_matrix_rate": round(whole, 3), "decoding": decoding_share(bench, len(bench.prompts))}


def score_part(part: str, bench: Bench, harness: Harness | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """This project's scores, and lm-evaluation-harness's of the same questions."""
    asked = asked_in(part, bench.questions)
    ways: dict[str, Callable[[], Any]] = {"ours": lambda: bench.scores(asked)}
    if harness:
        probe = max(len(asked) // 5, 1)
        rows = fastest("lm_eval", arguments.harness_rows, lambda rows: harness.run(part, rows, probe)[0])
        ways[f"lm_eval, {rows} rows"] = lambda: harness.run(part, rows)
    found = race(ways, arguments.repeats, part)
    sizes = [[len(choice.encode()) if part == "continuation" else 1 for choice in one.choices] for one in asked]
    notes, beyond = {}, 0
    for name, scores in found.results.items():
        differ = ties = 0
        for one, other, size in zip(found.results["ours"], scores, sizes, strict=True):
            ours, theirs = np.array(one) / size, np.array(other) / size
            differ += int(ours.argmax() != theirs.argmax())
            ties += int(ours.argmax() != theirs.argmax() and ours.max() - ours[theirs.argmax()] < bench.tie)
        beyond += differ - ties
        largest = max(np.abs(np.subtract(a, b)).max() for a, b in zip(found.results["ours"], scores, strict=True))
        notes[name] = f"{differ}, of them ties {ties}; {largest:.1e} nats at most"
    result = report(found, f"{part}, {len(asked)} questions", len(asked), "questions/s", "ours", notes)
    rate = found.rate() / 1e9
    numbers = {"ways": result, "gemm_gflops": round(rate, 1), "beyond_ties": beyond}
    if bench.provider == CPU:  # whose matrix rate it is
        share = found.share("ours", needed_operations(bench.config, bench.tokens(asked)))
        say(f"{part}: {share:.1%} of the matrix rate, {rate:.0f} GFLOP/s, counting only what the questions need")
        numbers["share_of_matrix_rate"] = round(share, 3)
    return numbers


def growth_part(bench: Bench, repeats: int) -> dict[str, Any]:
    """Seconds at 1, 2 and 4 quarters of the items."""
    asked = asked_in("continuation", bench.questions)
    ways: dict[str, Callable[[], Any]] = {}
    for quarters in (1, 2, 4):
        count = len(asked) * quarters // 4
        ways[f"{count} answers"] = lambda count=count: bench.answers(bench.prompts[:count])  # type: ignore[misc]
        ways[f"{count} questions"] = lambda count=count: bench.scores(asked[:count])  # type: ignore[misc]
    found = race(ways, repeats, "growth")
    medians = {name: round(statistics.median(times), 2) for name, times in found.seconds.items()}
    for name, spent in medians.items():
        say(f"{name}: {spent:.1f} s, {spent / int(name.split()[0]) * 1000:.0f} ms each")
    return {"seconds": medians, "gemm_gflops": round(found.rate() / 1e9, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--model", default="smollm2_135m")
    parser.add_argument("--provider", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--items", type=int, default=150, help="prompts, and as many questions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 32, 64], help="batch sizes that `generate` tries")
    parser.add_argument("--harness-rows", type=int, nargs="+", default=[1, 8, 32], help="that lm_eval tries")
    parser.add_argument("--no-optimum", action="store_true")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        raise PipelineError(f"Expected parts among {', '.join(PARTS)}, found {unknown[0]!r}.")
    parts = arguments.parts or PARTS
    beyond: dict[str, int] = {}
    python = os.environ.get("LM_EVAL_PYTHON")
    scored = [part for part in parts if part in ("letter", "continuation", "few_shot")]
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        bench = Bench(arguments.model, arguments.provider, arguments.items, Path(scratch))
        say(f"inference benchmark: {bench.provider}, float32 matrix product {gemm_rate() / 1e9:.0f} GFLOP/s")
        tasks = {part: asked_in(part, bench.questions) for part in scored}
        on_cpu = bench.provider == CPU
        harness = Harness(python, bench.weights, Path(scratch), tasks) if python and scored and on_cpu else None
        for part in parts:
            if part == "answers":
                found = answers_part(bench, arguments)
            elif part == "growth":
                found = growth_part(bench, arguments.repeats)
            else:
                found = score_part(part, bench, harness, arguments)
            asked = {"provider": bench.provider, "items": arguments.items, "repeats": arguments.repeats}
            name = part if on_cpu else f"{part}_cuda"
            gpu = {} if on_cpu else {"gpu": torch.cuda.get_device_name()}
            keep("inference", **{name: found | asked | gpu})
            beyond |= {part: found.get("beyond_ties", 0)}
        if harness:
            harness.close()
    sys.exit(1 if any(count > 0.005 * arguments.items for count in beyond.values()) else 0)


if __name__ == "__main__":
    run_stage(main)
