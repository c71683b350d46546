"""How fast are answers and scores?  `python -m tests.benchmarks.inference [MODEL] [--items N] [--repeats N]`

After `dvc repro`: runs the model's base on the first prompts and questions with this project's two graphs and with
Transformers, side by side in each repeat, prints medians and their ratios and writes `runs/benchmarks/inference.json`.
Exit status 1 when two ways disagree on an answer or a choice beyond a tie.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.lib.console import console, run_stage, say
from stages.lib.files import write_json
from stages.lib.inference.choice import Question, Scores, score, tokenized
from stages.lib.inference.generation import Generated, Limits, generate
from stages.lib.inference.grouped_choice import score_grouped
from stages.lib.inference.grouped_generation import generate_grouped
from stages.lib.inference.grouped_session import GroupedSession
from stages.lib.inference.session import CPU, ModelSession
from stages.lib.params import load_params
from stages.lib.prompting import chat_token_ids, continuation_prompt, continuations
from stages.lib.rows import Prompt, read_rows

BENCHMARKS = Path("data/benchmarks")
GEMM_SIZE = 1536
T = TypeVar("T")


def gemm_rate() -> float:
    """Float32 operations a second of a square matrix product, best of ten."""
    one, other = (np.random.default_rng(seed).random((GEMM_SIZE, GEMM_SIZE), np.float32) for seed in (0, 1))
    best = min(timed(lambda: one @ other)[0] for _ in range(10))
    return 2 * GEMM_SIZE**3 / best


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def transformers_generate(
    network: Any, prompts: list[list[int]], stop: int, new_tokens: int, rows: int
) -> list[list[int]]:
    """Greedy tokens by `generate`, left-padded batches of prompts of similar length."""
    order = sorted(range(len(prompts)), key=lambda item: len(prompts[item]))
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        width = max(len(prompts[item]) for item in batch)
        ids = torch.full((len(batch), width), stop)
        mask = torch.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, width - len(prompts[item]) :] = torch.tensor(prompts[item])
            mask[row, width - len(prompts[item]) :] = 1
        with torch.inference_mode():
            out = network.generate(
                ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=stop
            )
        for row, item in enumerate(batch):
            tokens = out[row, width:].tolist()
            found[item] = tokens[: tokens.index(stop)] if stop in tokens else tokens
    return found


def transformers_score(network: Any, questions: list[Question], rows: int) -> list[list[float]]:
    """Log-probability of every option, each with its context in full, as evaluation harnesses do."""
    asked = [(n, question.context, full) for n, question in enumerate(questions) for full in question.full]
    asked.sort(key=lambda request: -len(request[2]))
    found: dict[tuple[int, tuple[int, ...]], float] = {}
    for start in range(0, len(asked), rows):
        batch = asked[start : start + rows]
        width = max(len(full) for _, _, full in batch) - 1
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        for row, (_, _, full) in enumerate(batch):
            ids[row, : len(full) - 1] = torch.tensor(full[:-1])
        with torch.inference_mode():
            logits = network(ids).logits
        for row, (number, context, full) in enumerate(batch):
            of_row = torch.log_softmax(logits[row, len(context) - 1 : len(full) - 1], dim=-1)
            targets = torch.tensor(full[len(context) :])[:, None]
            found[number, tuple(full)] = float(of_row.gather(1, targets).sum())
    return [[found[n, tuple(full)] for full in question.full] for n, question in enumerate(questions)]


def differing_answers(found: list[list[int]], first: list[list[int]]) -> int:
    """How many answers are not the same tokens."""
    return sum(one != other for one, other in zip(found, first, strict=True))


def differing_choices(found: list[list[float]], first: list[list[float]]) -> int:
    """How many questions have another most likely option."""
    return sum(int(np.argmax(one) != np.argmax(other)) for one, other in zip(found, first, strict=True))


def tokens_of(generated: list[Generated]) -> list[list[int]]:
    """Their tokens alone."""
    return [one.tokens for one in generated]


def logprobs_of(scores: list[Scores]) -> list[list[float]]:
    """Their log-probabilities alone."""
    return [one.logprobs for one in scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2_135m")
    parser.add_argument("--items", type=int, default=150, help="prompts, and as many questions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 32, 64], help="batch sizes that Transformers tries")
    arguments = parser.parse_args()
    settings = load_params().infer
    folder = Path("models/onnx") / arguments.model / "base"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    harmful = read_rows(BENCHMARKS / "harmful.jsonl", Prompt)[: arguments.items]
    prompts = [chat_token_ids(tokenizer, prompt.text, arguments.model) for prompt in harmful]
    asked = read_rows(BENCHMARKS / "choice.jsonl", Prompt)[: arguments.items]
    questions = [
        tokenized(continuation_prompt(question), continuations(question), lambda text: tokenizer(text)["input_ids"])
        for question in asked
    ]
    stop, new_tokens = int(tokenizer.eos_token_id), settings.max_new_tokens
    limits = Limits(new_tokens, settings.generation_tokens, settings.rows_per_batch)
    grouped, plain = GroupedSession(folder), ModelSession(folder, CPU)
    network: Any = AutoModelForCausalLM.from_pretrained(
        Path("models/base") / arguments.model, dtype=torch.float32
    ).eval()

    answer_ways: dict[str, Callable[[], list[list[int]]]] = {
        "grouped_query": lambda: tokens_of(
            generate_grouped(grouped, prompts, frozenset([stop]), limits, settings.pass_tokens)
        ),
        "plain": lambda: tokens_of(generate(plain, prompts, frozenset([stop]), limits)),
    }
    score_ways: dict[str, Callable[[], list[list[float]]]] = {
        "grouped_query": lambda: logprobs_of(score_grouped(grouped, questions, settings.pass_tokens)),
        "plain": lambda: logprobs_of(score(plain, questions, settings.scoring_tokens, settings.rows_per_batch)),
    }
    for rows in arguments.rows:
        answer_ways[f"transformers, {rows} rows"] = lambda rows=rows: transformers_generate(
            network, prompts, stop, new_tokens, rows
        )
        score_ways[f"transformers, {rows} rows"] = lambda rows=rows: transformers_score(network, questions, rows)

    rates = [gemm_rate()]
    seconds: dict[str, dict[str, list[float]]] = {"answers": {}, "scores": {}}
    differ: dict[str, dict[str, int]] = {"answers": {}, "scores": {}}
    written = 0
    for repeat in range(arguments.repeats):
        first_answers: list[list[int]] | None = None
        for name, answer in answer_ways.items():
            spent, tokens = timed(answer)
            first_answers = first_answers or tokens
            written = sum(map(len, first_answers))
            seconds["answers"].setdefault(name, []).append(spent)
            differ["answers"][name] = differing_answers(tokens, first_answers)
        first_scores: list[list[float]] | None = None
        for name, scoring in score_ways.items():
            spent, logprobs = timed(scoring)
            first_scores = first_scores or logprobs
            seconds["scores"].setdefault(name, []).append(spent)
            differ["scores"][name] = differing_choices(logprobs, first_scores)
        rates.append(gemm_rate())
        say(f"inference benchmark: repeat {repeat + 1} of {arguments.repeats}")

    result: dict[str, Any] = {"items": arguments.items, "repeats": arguments.repeats, "new_tokens": written}
    result["gemm_gflops"] = round(statistics.median(rates) / 1e9, 1)
    for kind, amount, unit in (("answers", written, "tokens/s"), ("scores", len(questions), "questions/s")):
        of_kind = seconds[kind]
        theirs = {name: statistics.median(times) for name, times in of_kind.items() if name.startswith("transformers")}
        best = min(theirs, key=theirs.__getitem__)
        table = Table("way", unit, "times Transformers' best", "differ", title=f"{kind}, {arguments.items} items")
        result[kind] = {}
        for name, times in of_kind.items():
            ratio = statistics.median(b / own for b, own in zip(of_kind[best], times, strict=True))
            rate = amount / statistics.median(times)
            table.add_row(name, f"{rate:.1f}", f"{ratio:.2f}", str(differ[kind][name]))
            result[kind][name] = {
                "seconds": [round(spent, 3) for spent in times],
                "ratio_to_transformers_best": round(ratio, 3),
                "differ": differ[kind][name],
            }
        console.print(table)
    say(f"float32 matrix product: {result['gemm_gflops']} GFLOP/s")
    write_json(Path("runs/benchmarks/inference.json"), result)
    ours_differ = differ["answers"]["plain"] + differ["scores"]["plain"]
    sys.exit(1 if ours_differ > 0.005 * 2 * arguments.items else 0)


if __name__ == "__main__":
    run_stage(main)
