"""How long a run will take: the work of each stage, counted from shapes and texts, over the measured rates."""

import importlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safety_tax.checkup.rates import Rates
from safety_tax.checkup.shape import Shape
from safety_tax.core.prompting import REASONING, WORKED_EXAMPLES
from safety_tax.core.rows import GENERATED, KINDS, LABELLED, Kind, read_items
from safety_tax.core.workspace import BENCHMARKS
from safety_tax.params import Params
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor
from safety_tax.settings.sources import FolderSource

# Means of the default datasets, with SmolLM2's tokenizer; lengths where no rows are there yet. An option is counted
# apart from its question.
CHARACTERS_PER_TOKEN = 4.6
TEMPLATE_TOKENS = 30
CHARACTERS: dict[Kind, int] = {
    "harmful": 65,
    "jailbreak": 720,
    "benign": 65,
    "choice": 280,
    "problem": 235,
    "instruction": 210,
}
SOLUTION_CHARACTERS = 280
"""Of a worked example, beside the problem."""
OPTIONS, OPTION_CHARACTERS = 4, 41
SUBJECTS = 57  # of MMLU
ANSWER_CHARACTERS: dict[Kind, int] = {"harmful": 107, "benign": 168, "choice": OPTION_CHARACTERS}
# Shares of the measured rates that the graphs keep beside attention and norms.
PLAIN, GROUPED = 0.5, 0.9
TUNING = 0.6
TRACED_LAYERS = 2.0
"""Layers that Optimum traces and binds in a second."""
MERGE_RANKS = 3
"""A merge beside setting each donor's update in order once: products, signs, sums, the update itself."""
LAST = "judge, metrics, plots"
"""Stages that start and end, and do little between."""
GRAPHS = 2
"""Beside PyTorch, once a prompt, the base's gate reads the float32 weights once for each graph."""


class Answered(NamedTuple):
    """Prompts that are answered together."""

    prompts: int
    tokens: float
    """Of a prompt, on average, with what all of them begin with."""
    new_tokens: int
    """At most, of an answer."""


class Load(NamedTuple):
    """What one variant is asked."""

    answered: tuple[Answered, ...]
    answer_prompts: float
    """Tokens of all prompts that are answered, with the worked examples before problems once."""
    questions: int
    question_tokens: float
    """Tokens of all questions, with each subject's shots once, in the model's own format and a share in the other."""
    option_tokens: float
    """Tokens of options that are run after a question."""


def load_of(model: Model, params: Params) -> Load | None:
    """From the rows that `fetch_data` wrote, or from usual lengths; None where neither says how many there are."""
    sizes = params.sample_sizes()
    held = {dataset.kind for dataset in params.datasets().values()}
    lengths: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        if kind not in held:
            continue
        wanted = getattr(sizes, kind)
        lengths[kind] = _lengths(kind)
        if len(lengths[kind]) != wanted != "all" or not lengths[kind]:
            count = items_at_hand(kind, params) if wanted == "all" else wanted
            if count is None:
                return None
            lengths[kind] = [float(CHARACTERS[kind])] * count
    questions = len(lengths["choice"])
    other = questions if sizes.other_format == "all" else min(sizes.other_format, questions)
    letter, continuation = (questions, other) if model.utility_format == "letter" else (other, questions)
    text = sum(lengths["choice"]) / max(1, questions) / CHARACTERS_PER_TOKEN
    options = OPTIONS * OPTION_CHARACTERS / CHARACTERS_PER_TOKEN
    answered, prompts = _answers(lengths, model, params)
    return Load(
        answered=answered,
        answer_prompts=prompts,
        questions=questions,
        question_tokens=(letter + model.shots * min(letter, SUBJECTS)) * (text + options) + continuation * text,
        option_tokens=continuation * options,
    )


def _answers(lengths: dict[Kind, list[float]], model: Model, params: Params) -> tuple[tuple[Answered, ...], float]:
    """What is answered together, as stage `infer` cuts it, and the tokens of all the prompts."""
    worked = model.problem_format == "worked_examples"
    shown = WORKED_EXAMPLES * (CHARACTERS["problem"] + SOLUTION_CHARACTERS) / CHARACTERS_PER_TOKEN if worked else 0.0
    request = 0.0 if worked else TEMPLATE_TOKENS + len(REASONING) / CHARACTERS_PER_TOKEN
    prompts: dict[tuple[str, int], list[float]] = defaultdict(list)
    for kind in GENERATED:
        name = "answers" if kind in LABELLED else kind
        own = request if kind == "problem" else TEMPLATE_TOKENS
        tokens = [length / CHARACTERS_PER_TOKEN + own for length in lengths[kind]]
        prompts[name, params.infer.max_new_tokens.of(kind)] += tokens
    before = {"problem": shown}
    answered = [
        Answered(len(tokens), sum(tokens) / len(tokens) + before.get(name, 0.0), limit)
        for (name, limit), tokens in prompts.items()
        if tokens
    ]
    once = shown if lengths["problem"] else 0.0
    return tuple(answered), once + sum(sum(tokens) for tokens in prompts.values())


def items_at_hand(kind: Kind, params: Params) -> int | None:
    """About how many items of a kind there are to evaluate on, where all its datasets are folders of this project."""
    datasets = {name: dataset for name, dataset in params.datasets().items() if dataset.kind == kind}
    count = 0
    for name, dataset in datasets.items():
        if not isinstance(dataset.source, FolderSource) or not Path(dataset.source.path).is_dir():
            return None
        count += len(importlib.import_module(f"safety_tax.datasets.{name}").read(Path(dataset.source.path)))
    tuned = getattr(params.fetch_data.tune_share, kind, 0.0)
    return max(1, round(count * (1 - tuned)))


def _lengths(kind: Kind) -> list[float]:
    there = (BENCHMARKS / f"{kind}.jsonl").exists()
    return [len(row.text) for row in read_items(BENCHMARKS, kind)] if there else []


def stage_seconds(
    shape: Shape, model: Model, params: Params, load: Load, rates: Rates, on_gpu: bool
) -> dict[str, float]:
    """Seconds of each kind of stage for one model, all its variants together; downloads are not counted."""
    recipes = len(params.recipes)
    donors = [donor for donor in params.donors.values() if isinstance(donor, Donor)]
    used = sum(recipe.held() for recipe in params.recipes.values())
    stored = shape.bytes(model.dtype) / rates.store
    merging = used * MERGE_RANKS * shape.linear / rates.rank
    gate = (params.export.parity_prompts + GRAPHS) * shape.bytes("float32") / rates.read
    work = {
        "fetch_model": stored,
        "tune": sum(tuning_operations(shape, donor, params) for donor in donors) / (TUNING * rates.tuning),
        "merge": merging + recipes * stored,
        # DVC reads the linked weights to find that it has them.
        "export": shape.layers / TRACED_LAYERS + gate + (1 + recipes) * stored,
        "infer": (1 + recipes) * inference_seconds(shape, model, params, load, rates, on_gpu),
        LAST: 0.0,
    }
    stages = (1, len(params.donors), 1 + recipes, 1 + recipes, 1 + recipes, 1 + recipes + 2)
    return {name: work[name] + rates.start * count for name, count in zip(work, stages, strict=True)}


SHARED = {
    "export_base": "export",
    "baseline": "infer",
    **dict.fromkeys(("judge_base", "judge", "metrics", "plots"), LAST),
}
"""Stages that are counted under another one's name."""


def seconds_of_one(all_of_a_kind: dict[str, float], params: Params) -> dict[str, float]:
    """Of what `stage_seconds` says of a model: seconds of one stage of each kind, by its name in dvc.yaml."""
    recipes = len(params.recipes)
    counts = {"fetch_model": 1, "tune": len(params.donors), "merge": recipes, "export": 1 + recipes}
    counts |= {"infer": 1 + recipes, LAST: 1 + recipes + 2}
    one = {name: seconds / max(1, counts[name]) for name, seconds in all_of_a_kind.items()}
    return {name: seconds for name, seconds in one.items() if name != LAST} | {
        name: one[kind] for name, kind in SHARED.items()
    }


def tuning_operations(shape: Shape, donor: Donor, params: Params) -> float:
    """Forwards and backwards through frozen weights, twice a weight and token each; again forwards to recompute."""
    characters = sum(getattr(donor, kind) * (CHARACTERS[kind] + said) for kind, said in ANSWER_CHARACTERS.items())
    rows = donor.harmful + donor.benign + donor.choice
    tokens = donor.epochs * (characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS * rows)
    passes = 3 if params.tune.gradient_checkpointing else 2
    operations: float = 2 * passes * tokens * (shape.linear + shape.embedding)
    return operations


def inference_seconds(shape: Shape, model: Model, params: Params, load: Load, rates: Rates, on_gpu: bool) -> float:
    """One variant: prompts and questions read, answers written a token at a time to their full length."""
    run = params.run
    grouped = params.export.grouped_query and model.dtype == "float32" and not on_gpu and run.attention != "plain"
    rate = (GROUPED if grouped else PLAIN) * rates.multiply
    read_once = load.answer_prompts + load.question_tokens + load.option_tokens
    reading = 2 * (read_once * shape.linear + (load.questions + load.option_tokens) * shape.embedding) / rate
    item = 2 if model.dtype != "float32" and on_gpu else 4
    weights = shape.linear + shape.embedding
    writing = 0.0
    for part in load.answered:
        most = min(run.rows_per_batch, max(1, run.generation_tokens // round(part.tokens + part.new_tokens)))
        batches = -(-part.prompts // most)
        step = max(2 * part.prompts / batches * weights / rate, item * weights / rates.read)
        writing += batches * part.new_tokens * step
    return reading + writing


def total(seconds: Sequence[float]) -> str:
    """`40 s`, `22 minutes`, `3.5 hours`."""
    whole = sum(seconds)
    if whole < 100:
        return f"{whole:.0f} s"
    return f"{whole / 60:.0f} minutes" if whole < 7200 else f"{whole / 3600:.1f} hours"
