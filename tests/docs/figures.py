"""Every number on a page that a command can write, from the committed metrics.  `python -m tests.docs.figures`

Replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` on the pages, and names those that changed.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import yaml

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.files import written_atomically
from safety_tax.merging.methods import RECIPE_TYPES
from safety_tax.results.estimate import Estimate, fixed, shown
from safety_tax.results.statistics.power import items_needed
from safety_tax.results.variant import ModelResults, read_results
from tests.benchmarks.scale import Assumptions, page
from tests.docs.pages import PAGES, ROOT, name_of, with_written

MODEL = "smollm2_135m"
SHARED_KEYS = ("method", "models", "donors", "scale", "safety", "alpha")
"""Keys that many recipes have; the page explains them once."""
MACHINES = {"": "AMD, AVX-512", "xeon/": "Intel, AVX-512", "avx2/": "AMD, AVX2"}
"""Folders of metrics/benchmarks/, and what their machines are called on the page; all have two cores."""
LARGE = {"mistral_7b": (7.24e9, 41.9e6), "llama31_8b": (8.03e9, 41.9e6), "qwen25_14b": (14.77e9, 68.8e6)}
"""Weights of the catalogue's large models, and of one of their adapters."""
RECIPES_OF_LARGE = 6


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@cache
def results() -> ModelResults:
    """Those of the default run."""
    return read_results(ROOT / f"metrics/detail/{MODEL}.json")


def kept(benchmark: str) -> Any:
    """The figures that a benchmark kept."""
    return json.loads((ROOT / f"metrics/benchmarks/{benchmark}.json").read_text(encoding="utf-8"))


@cache
def params() -> Any:
    """params.yaml as it stands."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def of_way(part: Any, name: str) -> Any:
    """The figures of one way in a race; a rival's name has its batch size behind it."""
    (found,) = (figures for way, figures in part["ways"].items() if way.split(",")[0] == name)
    return found


def words() -> list[str]:
    """The paragraphs of the results in words, as the stage `metrics` wrote them."""
    return (ROOT / f"metrics/{MODEL}.md").read_text(encoding="utf-8").strip().split("\n\n")


def headline() -> str:
    """What to choose, and what it costs."""
    return f"> {words()[1].strip('*')}"


def short_results() -> str:
    """One row a variant: safety, each loss, and what all is worth."""
    paid = results().currencies
    head = ["variant", "safety", *(f"{CURRENCIES[name].noun} lost" for name in paid), "net benefit"]
    rows = []
    for name, variant in results().variants.items():
        losses = [shown(variant.currencies[one].paid.loss) if variant.effects else "" for one in paid]
        benefit = shown(variant.net_benefit.estimate) if variant.net_benefit else ""
        rows.append([f"`{name}`", shown(variant.rates["safety"]), *losses, benefit])
    return table(head, rows)


def full_results() -> str:
    """The table of the results in words."""
    return words()[2]


def asked() -> str:
    """How many items the default run asks."""
    sizes = {kind: results().base.rates["safety"].n for kind in ("harmful prompts",)}
    sizes |= {CURRENCIES[name].items: of.value.n for name, of in results().base.currencies.items()}
    tokens = params()["infer"]["max_new_tokens"]["harmful"]
    return f"{', '.join(f'{n} {what}' for what, n in sizes.items())}; answers of at most {tokens} tokens."


def items_wanted() -> str:
    """Items that a paired comparison needs, by what it is to see."""
    shares = (0.05, 0.1, 0.2)
    rows = [
        [name, *(f"{items_needed(effect, share):,}" for share in shares)]
        for name, effect in (("1 point", 0.01), ("2 points", 0.02), ("5 points", 0.05), ("10 points", 0.1))
    ]
    return table(["difference to see", *(f"{share:.0%} of the items differ" for share in shares)], rows)


def needs() -> str:
    """What the default run takes."""
    run = kept("avx2/pipeline")["repro"]
    minutes, installing = (f"{run[key] / 60:.0f}" for key in ("seconds", "installation"))
    memory, disk, environment = (f"{run[key] / 1e9:.1f}" for key in ("peak_bytes", "disk_bytes", "environment_bytes"))
    return (
        f"On {run['machine']}, it took {minutes} minutes, {installing} of them to install, {memory} GB of memory at "
        f"most, and {disk} GB of disk, {environment} of them for the libraries."
    )


def whole_run() -> str:
    """The parts of the default run."""
    run = kept("avx2/pipeline")["repro"]
    least, most = min(run["recipes"].values()), max(run["recipes"].values())
    rows = [
        ["the whole run, with installation", f"{run['seconds'] / 60:.0f} minutes"],
        ["installation", f"{run['installation'] / 60:.0f} minutes"],
        ["one more recipe", f"{least:.0f} to {most:.0f} s"],
        ["`dvc repro` with nothing to do", f"{run['idle_seconds']:.0f} s"],
        ["memory of the largest process", f"{run['peak_bytes'] / 1e9:.1f} GB"],
    ]
    return table(["what", f"on {run['machine']}"], rows)


def speed() -> str:
    """Rates beside those of other tools, and the ratio on each machine."""
    head = [
        "what",
        f"here ({MACHINES['']})",
        "the other tool",
        *(f"times faster: {name}" for name in MACHINES.values()),
    ]
    runs = [kept(f"{machine}inference") for machine in MACHINES]
    rows = []
    for what, part in (("`letter`", "letter"), ("`letter`, 5 shots", "few_shot"), ("`continuation`", "continuation")):
        ours, theirs = (of_way(runs[0][part], name)["questions/s"] for name in ("ours", "lm_eval"))
        ratios = [f"{of_way(run[part], 'lm_eval')['times_slower']:.1f}" for run in runs]
        rows.append([f"MMLU, {what}", f"{ours:.1f} questions/s", f"lm-evaluation-harness {theirs:.1f}", *ratios])
    ours = of_way(runs[0]["answers"], "ours")["tokens/s"]
    for name in ("transformers", "optimum"):
        theirs = of_way(runs[0]["answers"], name)["tokens/s"]
        ratios = [f"{of_way(run['answers'], name)['times_slower']:.1f}" for run in runs]
        rows.append(["answers of 48 tokens", f"{ours:.0f} tokens/s", f"{name.capitalize()} {theirs:.0f}", *ratios])
    merges = {machine: kept(f"{machine}merge")["speed"] for machine in ("", "avx2/")}
    ratios = [
        times(merges, machine, lambda of: of["mergekit"]["seconds"] / of["ours"]["seconds"]) for machine in MACHINES
    ]
    ours, theirs = (merges[""][way]["seconds"] for way in ("ours", "mergekit"))
    rows.append(["TIES, the default model's shape", f"{ours:.1f} s", f"mergekit {theirs:.1f} s", *ratios])
    return table(head, rows)


def exports() -> str:
    """Exports beside Optimum's, on the machine that ran them last."""
    found = kept("avx2/export")["speed"]
    rows = [
        [what, f"{found[way]['median_seconds']:.1f} s", f"{found['optimum']['median_seconds']:.1f} s"]
        for what, way in (("export of a recipe's variant", "variant"), ("export of the base, with its checks", "base"))
    ]
    return table([f"what, on {found['machine']}", "here", "Optimum, without its checks"], rows)


def spread() -> str:
    """How far one ratio went on the slowest machine."""
    answers = kept("avx2/inference")["answers"]
    pairs = zip(of_way(answers, "transformers")["seconds"], of_way(answers, "ours")["seconds"], strict=True)
    ratios = sorted(theirs / ours for theirs, ours in pairs)
    return (
        f"On the slowest machine ({answers['machine']}), the ratio to Transformers went from {ratios[0]:.1f} to "
        f"{ratios[-1]:.1f} over {len(ratios)} repeats."
    )


def times(measured: dict[str, Any], machine: str, ratio: Callable[[Any], float]) -> str:
    """A ratio, or a dash where the machine did not run it."""
    return f"{ratio(measured[machine]):.1f}" if machine in measured else "–"


def shares() -> str:
    """How much of the machine's matrix product rate is reached."""
    rows = []
    for machine, name in MACHINES.items():
        parts = kept(f"{machine}inference")
        letter, decoding = parts["letter"]["share_of_matrix_rate"], parts["answers"]["decoding"]["share_of_matrix_rate"]
        rows.append([name, f"{parts['letter']['gemm_gflops']:.0f} GFLOP/s", f"{letter:.0%}", f"{decoding:.0%}"])
    return table(["machine", "matrix product", "scoring (`letter`)", "decoding"], rows)


def memory() -> str:
    """Memory of a merge and an export of larger models."""
    merge = kept("merge")["memory"]
    size = f"{merge['checkpoint_bytes'] / 1e9:.1f} GB"
    rows = [[f"merge of three checkpoints of {size} each", f"{merge['peak_bytes'] / 1e9:.1f} GB"]]
    for model in kept("avx2/export")["memory"]["models"]:
        weights = f"{model['dtype']} model of {model['weights_bytes'] / 1e9:.1f} GB"
        rows.append([f"export of a base, {weights}", f"{model['base']['peak_bytes'] / 1e9:.1f} GB"])
    rows.append(["export of a recipe's variant, of any size", f"{model['ties']['peak_bytes'] / 1e6:.0f} MB"])
    return table(["what", "memory at most"], rows)


def judge_rate() -> str:
    """Answers that `rules` labels in a second."""
    rate = kept("judge")["responses_per_second"]["200"]
    return f"`rules` labels {round(rate, -2):,} answers of 200 characters a second on one core."


def noise() -> str:
    """What differed when the same items ran in other company."""
    (floor,) = kept("noise_floor").values()
    rows = [
        [way, *(str(differ[what]) for what in ("responses", "labels", "outcomes")), f"{differ['score']:.0e}"]
        for way, differ in floor["differ"].items()
    ]
    head = ["way to run", "answers that differ", "labels", "outcomes", "largest difference of a score, bits per byte"]
    return f"{floor['responses']} prompts and {floor['questions']} questions:\n\n{table(head, rows)}"


def fuzzing() -> str:
    """How many hostile inputs were tried."""
    (run,) = kept("fuzz").values()
    return (
        f"{run['inputs']:,} hostile inputs met {run['targets']} readers and judges. {run['guided']:,} of them were "
        f"made up by atheris, the others were damaged at random. Inputs that met a fault: {run['faults']}."
    )


def sizes() -> str:
    """Bytes of each kind of output, as dvc.lock has them."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    written = {out["path"]: out["size"] for stage in stages for out in stage.get("outs", [])}
    kinds = {
        "base weights": ("`fetch_model`", "models/base/"),
        "donors": ("`tune`", "models/donors/"),
        "merged weights": ("`merge`", "models/merged/"),
        "ONNX, with links to these weights": ("`export_base`, `export`", "models/onnx/"),
        "benchmarks": ("`fetch_data`", "data/benchmarks/"),
        "answers": ("`baseline`, `infer`", "data/responses/"),
        "verdicts": ("`judge_base`, `judge`", "data/verdicts/"),
    }
    rows = []
    for kind, (stage, place) in kinds.items():
        found = [of for path, of in written.items() if path.startswith(place)]
        rows.append([kind, stage, str(len(found)), size(sum(found))])
    return table(["kind", "stages", "outputs", "size"], rows)


def size(of: float) -> str:
    """`16.1 GB` or `39.2 MB`."""
    return f"{of / 1e9:.3g} GB" if of >= 1e9 else f"{of / 1e6:.3g} MB"


def large_sizes() -> str:
    """Bytes of the catalogue's large models in float16, with adapters in float32."""
    copies = RECIPES_OF_LARGE + 1
    head = ["model", "weights", "one variant", f"base and {RECIPES_OF_LARGE} recipes", "2 donors"]
    return table(
        head,
        [
            [
                f"`{name}`",
                f"{weights / 1e9:.2f} · 10⁹",
                *map(size, (2 * weights, copies * 2 * weights, 2 * 4 * adapter)),
            ]
            for name, (weights, adapter) in LARGE.items()
        ],
    )


def recipes() -> str:
    """Every merge method: its formula and paper, and the keys of its own with their defaults."""
    rows = []
    for method, kind in sorted(RECIPE_TYPES.items()):
        first = re.sub(r"\s+", " ", (kind.__doc__ or "").strip().split("\n\n")[0])
        keys = []
        for name, field in kind.model_fields.items():
            default = "" if field.is_required() else f": {json.dumps(field.get_default(call_default_factory=True))}"
            keys += [f"`{name}{default}`"] if name not in SHARED_KEYS else []
        rows.append([f"`{method}`", first.rstrip(".").replace("|", "\\|"), ", ".join(keys)])
    return table(["method", "formula and source", "its own keys, with defaults"], rows)


def datasets() -> str:
    """Every dataset that params.yaml declares."""
    sets = params()["benchmark_sets"]
    rows = []
    for name, entry in params()["fetch_data"]["datasets"].items():
        source = entry["source"]
        origin = source.get("repository") or source.get("requirement") or source.get("path") or "made from a seed"
        at = f" at `{source['commit'][:8]}`" if "commit" in source else ""
        inside = ", ".join(f"`{one}`" for one, names in sets.items() if name in names)
        rows.append([f"`{name}`", f"`{entry['kind']}`", f"{origin}{at}", inside])
    return table(["dataset", "kind of item", "from", "in the sets"], rows)


def scale() -> str:
    """What 100 models take."""
    return page(Assumptions()).strip()


def families() -> str:
    """The families that are tried from end to end, by the list that the tests run."""
    from safety_tax.model_files.attention import unfit, unwritten  # torch and Transformers take seconds
    from tests.families import FAMILIES

    rows = []
    for family in FAMILIES.values():
        graphs = ["fast" if reason(family.config()) is None else "plain" for reason in (unfit, unwritten)]
        rows.append([family.models, f"`{family.kind}`", *graphs])
    return table(["models", "`model_type`", "on the CPU, in float32", "on a GPU, in 16 bits"], rows)


def safety_merges() -> str:
    """Each recipe of the example on merges made for safety: what it gains and costs, the best net benefit first."""
    found = kept("safety_merges")["recipes"]
    columns = {"gain": "safety gained"}
    columns |= {name: f"{of.noun} lost" for name, of in CURRENCIES.items() if name in found["safety_donor"]}
    columns["net_benefit"] = "net benefit"
    recipes = {name: of for name, of in found.items() if name != "machine"}
    rows = [
        [f"`{name}`", *(shown(Estimate(value=of[key][0], low=of[key][1], high=of[key][2], n=1)) for key in columns)]
        for name, of in sorted(recipes.items(), key=lambda entry: -entry[1]["net_benefit"][0])
    ]
    return table(["recipe", *columns.values()], rows)


def matched_merges() -> str:
    """What each dial of the example loses where it has half of the safety donor's gain, beside plain addition."""
    found = {name: of for name, of in kept("safety_merges")["matched"].items() if name != "machine"}
    columns = {}
    for name, of in CURRENCIES.items():
        if name in found["plain"]:
            columns |= {name: f"{of.noun} lost", f"{name}_less": f"less {of.noun} lost than by `plain`"}

    def cell(numbers: list[float | None] | None) -> str:
        if numbers is None or numbers[0] is None:
            return ""
        value, low, high = numbers
        if low is None or high is None:  # under nine of ten resamples reach so much safety
            return fixed(100 * value, 1)
        return shown(Estimate(value=value, low=low, high=high, n=1))

    rows = [[f"`{name}`", *(cell(of.get(key)) for key in columns)] for name, of in found.items()]
    return table(["dial", *columns.values()], rows)


WRITERS: dict[str, Callable[[], str]] = {
    "headline": headline,
    "short-results": short_results,
    "full-results": full_results,
    "asked": asked,
    "items-needed": items_wanted,
    "needs": needs,
    "whole-run": whole_run,
    "speed": speed,
    "exports": exports,
    "spread": spread,
    "shares": shares,
    "memory": memory,
    "judge-rate": judge_rate,
    "noise": noise,
    "fuzzing": fuzzing,
    "sizes": sizes,
    "large-sizes": large_sizes,
    "recipes": recipes,
    "datasets": datasets,
    "scale": scale,
    "families": families,
    "safety-merges": safety_merges,
    "matched-merges": matched_merges,
}


def written() -> dict[str, str]:
    """All that stands between markers, by name."""
    return {name: writer() for name, writer in WRITERS.items()}


def main() -> None:
    texts = written()
    changed = []
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = with_written(before, texts)
        if after != before:
            with written_atomically(path) as partial:
                partial.write_text(after, encoding="utf-8", newline="\n")
            changed.append(name_of(path))
    print(f"figures: {', '.join(changed) or 'every page is as it was'}")


if __name__ == "__main__":
    main()
