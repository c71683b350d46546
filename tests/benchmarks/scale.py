"""What 100 models x 20 recipes x 15,000 items take, and what gives out first.  `python -m tests.benchmarks.scale`

Prints the last sections of docs/big-models.md: arithmetic from named assumptions, and a simulation of the same work on
several clusters, event by event. `python -m tests.docs.figures` writes them there.
"""

import argparse
import heapq
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

# Lines of the page are as long as they are.
# ruff: noqa: E501
GB, HOUR = 1e9, 3600.0
# Stages of a model whatever its recipes: fetch_model, export_base, baseline, two of tune, curvature, importance,
# judge_base, metrics, plots.
ONCE = 10


def assume(value: float, why: str) -> float:
    """A number with its reason, as a field of `Assumptions`."""
    made: float = field(default=value, metadata={"why": why})
    return made


@dataclass(frozen=True)
class Assumptions:
    """Every number that the page rests on."""

    models: float = assume(100, "asked")
    recipes: float = assume(20, "asked; the base is one variant more")
    questions: float = assume(14_042, "MMLU's test set: with the prompts below, 15,000 items")
    prompts: float = assume(958, "harmful, jailbreak and benign together")
    weights: float = assume(7.24e9, "Mistral-7B; each model is of its size")
    weight_bytes: float = assume(2, "float16")
    question_tokens: float = assume(750, "letter format after five solved questions, and the options")
    other_tokens: float = assume(140, "continuation format: the question, and four options after it")
    prompt_tokens: float = assume(200, "the mean of jailbreak texts and plain prompts")
    new_tokens: float = assume(48, "`infer.max_new_tokens.harmful`")
    gpu_flops: float = assume(250e12, "a quarter of an H100's 989e12 in float16: not measured here")
    gpu_bandwidth: float = assume(1.7e12, "half of an H100's 3.35e12 bytes/s: not measured here")
    batch: float = assume(256, "`run.rows_per_batch`")
    tune_rows: float = assume(369, "rows and epochs of both default donors, without those held out")
    tune_tokens: float = assume(150, "a row")
    tune_slowdown: float = assume(3, "backward pass and adapter: three times a forward pass, at half its rate")
    merge_rate: float = assume(
        30e6, "weights/s: TIES of the default model's shape, 135e6 in 4.2 s on two cores, its start included"
    )
    load_rate: float = assume(0.5e9, "bytes/s to load a variant's weights: not measured at this size")
    hash_rate: float = assume(0.5e9, "bytes/s of MD5 on one core, when DVC takes an output in")
    start: float = assume(5, "seconds until a stage has imported torch and opened its files")
    lock_seconds: float = assume(
        0.024, "seconds for each stage in dvc.lock whenever one ends: 35 take 0.8 s, 140 take 3.4"
    )
    link: float = assume(3.1e9, "bytes/s of a machine's network, 25 Gbit/s")
    store: float = assume(10e9, "bytes/s that the DVC remote gives to all machines together")
    adapter_bytes: float = assume(168e6, "a LoRA donor of rank 16, in float32")
    result_bytes: float = assume(4.5e6, "responses, choices and verdicts of a variant")
    shared_bytes: float = assume(12e6, "graph, tokenizer and configuration: equal in each variant of a model")


class Costs(NamedTuple):
    """Of one model, in seconds and bytes."""

    fetch: float
    """Bytes from the remote."""
    tune: float
    """GPU seconds, both donors."""
    merge: float
    """Processor seconds, one recipe."""
    export: float
    take_in: float
    """Processor seconds in which DVC hashes a variant's weights twice: as the merge's output, and as the export's."""
    infer: float
    """GPU seconds, one variant."""
    stages: float
    """Those of the base, the donors and the metrics, and four a recipe."""


def costs(a: Assumptions) -> Costs:
    """What the stages of one model take."""
    read = a.questions * (a.question_tokens + a.other_tokens) + a.prompts * a.prompt_tokens
    # Decoding reads all weights once a step for a whole batch; the past comes on top, and is left out.
    steps = a.prompts / a.batch * a.new_tokens
    infer = 2 * a.weights * read / a.gpu_flops + steps * a.weights * a.weight_bytes / a.gpu_bandwidth
    copy = a.weights * a.weight_bytes
    tune = a.tune_slowdown * 2 * 2 * a.weights * a.tune_rows * a.tune_tokens / a.gpu_flops
    return Costs(
        fetch=copy,
        tune=tune,
        merge=a.weights / a.merge_rate,
        export=copy / a.load_rate,
        take_in=2 * copy / a.hash_rate,
        infer=infer,
        stages=ONCE + 4 * a.recipes,
    )


class Cluster(NamedTuple):
    """How the work is spread: `clones` of the repository, each with one `dvc repro` at a time."""

    name: str
    clones: int
    gpus: int
    """Of each clone."""
    machines: int
    """That a clone spreads a variant's items over; the weights go to each but its own."""
    models: int
    """In one clone's dvc.lock."""


class Step(NamedTuple):
    """A piece of one clone's work: seconds of its own, and bytes that the remote has to send."""

    kind: str
    seconds: float
    bytes: float = 0.0


def work(a: Assumptions, cluster: Cluster) -> Iterator[Step]:
    """The steps of one model in a clone, in order: `dvc repro` runs one stage after another."""
    c = costs(a)
    lock = a.lock_seconds * c.stages * cluster.models / 2  # the file grows: half of its stages on average
    away = (cluster.machines - 1) * c.fetch / a.link  # one machine's link sends the weights to the others
    yield Step("network", 0, c.fetch)
    yield Step("tune", c.tune + 2 * a.start)  # on one GPU
    for variant in range(int(a.recipes) + 1):
        if variant:
            yield Step("merge", c.merge + a.start)
        yield Step("export", c.export + a.start)
        yield Step("DVC's hashes", c.take_in)
        yield Step("network", away)
        yield Step("infer", c.infer / cluster.gpus + a.start)
        yield Step("dvc.lock", (4 if variant else ONCE) * lock)


class Outcome(NamedTuple):
    """Of a simulation: hours, the share of them that a GPU works, and where a clone's time goes."""

    hours: float
    gpu_share: float
    spent: Counter[str]


def simulate(a: Assumptions, cluster: Cluster) -> Outcome:
    """Clones take models from one queue; the remote serves as many at once as its rate has links, first come first."""
    waiting_models = int(a.models)
    seats, queue = max(1, int(a.store / a.link)), deque[tuple[int, float, Step]]()
    events: list[tuple[float, int, str]] = [(0.0, clone, "next") for clone in range(cluster.clones)]
    plans: dict[int, Iterator[Step]] = {clone: iter(()) for clone in range(cluster.clones)}
    spent: Counter[str] = Counter()
    now = 0.0
    while events:
        now, clone, what = heapq.heappop(events)
        if what == "sent":
            seats += 1
        step = next(plans[clone], None)
        if step is None and waiting_models:
            waiting_models -= 1
            plans[clone] = work(a, cluster)
            step = next(plans[clone])
        if step is not None and step.bytes:
            queue.append((clone, now, step))
        elif step is not None:
            spent[step.kind] += step.seconds
            heapq.heappush(events, (now + step.seconds, clone, "next"))
        while queue and seats:
            seats -= 1
            sender, since, transfer = queue.popleft()
            end = now + transfer.bytes / a.link
            spent[transfer.kind] += end - since
            heapq.heappush(events, (end, sender, "sent"))
    c = costs(a)
    busy = a.models * (c.tune + (a.recipes + 1) * c.infer)
    return Outcome(now / HOUR, busy / (now * cluster.clones * cluster.gpus), spent)


CLUSTERS = (
    Cluster("one clone, 1 GPU", 1, 1, 1, 100),
    Cluster("one clone, 64 GPUs in 8 machines", 1, 64, 8, 100),
    Cluster("8 clones, 8 GPUs each", 8, 8, 1, 1),
    Cluster("64 clones, 1 GPU each", 64, 1, 1, 1),
)


def assumptions_table(a: Assumptions) -> str:
    """Every assumption, its value and its reason."""
    rows = [f"| `{one.name}` | {getattr(a, one.name):,.9g} | {one.metadata['why']} |" for one in fields(a)]
    return "\n".join(["| assumption | value | because |", "|---|---|---|", *rows])


def page(a: Assumptions) -> str:
    """The sections, from `## What 100 models take` on."""
    c = costs(a)
    variants = a.models * (a.recipes + 1)
    weights = variants * c.fetch
    shared = weights + (variants - a.models) * a.shared_bytes  # the ONNX has the weights' own files
    small = variants * a.result_bytes + a.models * 2 * a.adapter_bytes
    rows, shares = [], list[float]()
    for cluster in CLUSTERS:
        found = simulate(a, cluster)
        (first, seconds), (second, less) = found.spent.most_common(2)
        whole = sum(found.spent.values())
        shares.append(found.gpu_share)
        rows.append(
            f"| {cluster.name} | {found.hours:,.0f} | {found.gpu_share:.0%} | {first} {seconds / whole:.0%}, "
            f"{second} {less / whole:.0%} |"
        )
    processor = c.merge + c.export + c.take_in
    return f"""## What {a.models:,.0f} models take

{a.models:,.0f} models x {a.recipes:,.0f} recipes x {a.questions + a.prompts:,.0f} items. Nothing of this size was run. Rates that were measured are of the default model.
`python -m tests.benchmarks.scale` prints this. To see another case, change a number in its `Assumptions`.

| what | one model | all |
|---|---|---|
| variants, base included | {a.recipes + 1:,.0f} | {variants:,.0f} |
| answers and scores | {(a.recipes + 1) * (a.questions + a.prompts):,.0f} | {variants * (a.questions + a.prompts):,.0f} |
| GPU-hours of `infer` | {(a.recipes + 1) * c.infer / HOUR:,.1f} ({c.infer:,.0f} s a variant) | {variants * c.infer / HOUR:,.0f} |
| GPU-hours of `tune` | {c.tune / HOUR:,.2f} | {a.models * c.tune / HOUR:,.1f} |
| processor-hours of `merge`, `export` and DVC's hashes | {a.recipes * processor / HOUR:,.1f} ({processor:,.0f} s a variant) | {a.models * a.recipes * processor / HOUR:,.0f} |
| weights: base and merged | {weights / a.models / GB:,.0f} GB | {weights / 1e12:,.1f} TB |
| saved because DVC stores equal files once | {shared / a.models / GB:,.1f} GB | {shared / GB:,.0f} GB |
| what cannot be made again cheaply: donors, answers, verdicts | {small / a.models / GB:,.2f} GB | {small / GB:,.0f} GB |
| network: bases in, small outputs out | {(c.fetch + small / a.models) / GB:,.1f} GB | {(a.models * c.fetch + small) / 1e12:,.2f} TB |
| network: with all weights pushed | {(c.fetch + weights / a.models) / GB:,.0f} GB | {(a.models * c.fetch + weights) / 1e12:,.1f} TB |

So do not keep weights. Push donors, answers and verdicts, {small / GB:,.0f} GB, and make weights again from base, donors and recipe.

The ONNX of a variant reads the very files of its weights, which DVC stores once. Every recipe changes every shard.
Links (`cache.type`) keep the workspace from being a second copy.

### Which cluster

Give each model a clone of its own, with `models: [one]` in its `params.yaml`, and each clone one GPU.
That keeps the GPUs {max(shares):.0%} busy, the most of the clusters that were simulated:

| cluster | hours | GPUs at work | where a clone's time goes |
|---|---|---|---|
{chr(10).join(rows)}

Clones take models from one queue and share the remote. In each, `dvc repro` runs one stage after another; `infer` alone spreads over GPUs.
What a clone waits for:

| what | seconds |
|---|---|
| `infer` of a variant on one GPU | {c.infer:,.0f} |
| the processor: `merge` of a recipe | {c.merge:,.0f} |
| the processor: `export` of a recipe, and its hashes | {c.export + c.take_in:,.0f} |
| the network: a variant's weights to 7 other machines | {7 * c.fetch / a.link:,.0f} |

DVC rewrites dvc.lock whole whenever a stage ends. In one clone with all models that is {a.models * c.stages:,.0f} stages; with one model it is {c.stages:,.0f}.
The network is no limit: {a.models * c.fetch / 1e12:,.2f} TB of bases at {a.store / GB:,.0f} GB/s take {a.models * c.fetch / a.store / 60:,.0f} minutes.

### What this rests on

{assumptions_table(a)}
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(page(Assumptions()), end="")


if __name__ == "__main__":
    main()
