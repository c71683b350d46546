"""What merges made for safety gain and cost, beside their controls.  `python -m tests.benchmarks.safety_merges`

Clones this repository's HEAD, takes `examples/safety_merges.yaml` at the size `quick` for its params.yaml, and runs
it: an hour on two slow cores. The control `random_layers` takes as many layers as `safe_merge` then does. Keeps each
recipe's gain, losses and net benefit in `metrics/benchmarks/safety_merges.json`, and what each dial loses at matched
safety: where it has half of the safety donor's gain, also beside plain addition's dial, on the same items.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from safety_tax.core.console import run_stage, say
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import VERDICT, Verdict, read_rows
from safety_tax.params import Params, validated
from safety_tax.results.comparison.sweeps import Differences, Floats, Matched, Point, differences_along, limited
from safety_tax.results.measures import measures
from safety_tax.results.statistics.bootstrap import bootstrap_matched_losses
from safety_tax.results.statistics.frontier import matched_loss
from safety_tax.results.variant import read_results
from tests.benchmarks.results import FOLDER, keep

ROOT = Path(__file__).parents[2]
MODEL, YARDSTICK, CONTROL, DONOR, PLAIN = "smollm2_135m", "safe_merge_80", "random_layers", "safety_donor", "plain"


def reproduce(folder: Path, *stages: str) -> None:
    """Run `dvc repro` there."""
    subprocess.run([sys.executable, "-m", "dvc", "repro", *stages], cwd=folder, check=True)


def run(folder: Path, dials: Sequence[str]) -> None:
    """Measure the recipes of the example in a clone; those of some dials, where they are named."""
    path = folder / "params.yaml"
    params = yaml.safe_load((folder / "examples/safety_merges.yaml").read_text(encoding="utf-8")) | {"size": "quick"}
    if dials:
        kept = {"safety", "utility", *dials}
        params["recipes"] = {name: of for name, of in params["recipes"].items() if name.rpartition("_")[0] in kept}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    controls = [recipe for recipe in params["recipes"].values() if recipe["method"] == CONTROL]
    if controls and YARDSTICK in params["recipes"]:
        reproduce(folder, f"merge@{MODEL}-{YARDSTICK}")
        merged = folder / f"models/merged/{MODEL}/{YARDSTICK}/merge.json"
        changed = json.loads(merged.read_text(encoding="utf-8"))["layers_changed"]
        for control in controls:
            control["k"] = changed
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    reproduce(folder)


def summary(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Of a measured clone, by recipe: `gain`, each currency's loss and `net_benefit`, with limits, as fractions."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, variant in read_results(folder / f"metrics/detail/{MODEL}.json").recipes.items():
        numbers = {"gain": variant.gain, **{currency: paid.loss for currency, paid in variant.paid.items()}}
        found[name] = {key: [of.value, of.low, of.high] for key, of in numbers.items()}
        if variant.net_benefit is not None:
            of = variant.net_benefit.estimate
            found[name]["net_benefit"] = [of.value, of.low, of.high]
    return {name: {key: [round(one, 4) for one in of] for key, of in row.items()} for name, row in found.items()}


def matched(folder: Path) -> dict[str, dict[str, list[float | None]]]:
    """Of a measured clone, by dial: each currency's loss at half of the safety donor's gain, as a fraction with limits,
    and how much less than plain addition's it is (`<currency>_less`). A dial that never gains so much is left out.
    """
    params = validated(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")))
    results = read_results(folder / f"metrics/detail/{MODEL}.json")
    verdicts = {name: read_rows(folder / f"data/verdicts/{MODEL}/{name}.jsonl", VERDICT) for name in results.variants}
    asked = measures(params.model(MODEL).utility_format)
    dials = {family.members[0].rpartition("_")[0]: family.members for family in results.families}
    names = sorted(dials, key=lambda name: name != PLAIN)  # it comes first
    safety = Differences(verdicts["base"], verdicts.values(), asked["safety"])
    donor = safety.of(verdicts[DONOR])
    found: dict[str, dict[str, list[float | None]]] = {}
    for currency in results.currencies:
        paid = Differences(verdicts["base"], verdicts.values(), asked[CURRENCIES[currency].measure])
        arrays = [along(dials[name], params, verdicts, safety, paid) for name in names]
        resampled = bootstrap_matched_losses(arrays, donor, safety.groups, paid.groups)
        for column, (name, (gains, losses)) in enumerate(zip(names, arrays, strict=True)):
            points = list(zip(gains.mean(axis=1).tolist(), losses.mean(axis=1).tolist(), strict=True))
            loss = matched_loss(points, donor_gain=float(donor.mean()))
            if loss is None:
                continue
            row = found.setdefault(name, {})
            row[currency] = rounded(limited(loss, resampled[:, column], results.confidence))
            if name != PLAIN and PLAIN in found:
                less = resampled[:, 0] - resampled[:, column]
                plain = found[PLAIN][currency][0]
                assert plain is not None
                row[f"{currency}_less"] = rounded(limited(plain - loss, less, results.confidence))
    return found


def along(
    members: list[str],
    params: Params,
    verdicts: Mapping[str, Sequence[Verdict]],
    safety: Differences,
    paid: Differences,
) -> tuple[Floats, Floats]:
    """Gains and losses by rising dial, [points, items]."""
    dial = params.recipe(members[0]).dial
    assert dial is not None
    points = [Point(name, {dial: getattr(params.recipe(name), dial)}, "", verdicts[name]) for name in members]
    return differences_along(points, dial, safety, paid)


def rounded(of: Matched) -> list[float | None]:
    """Value and limits, to a hundredth of a point."""
    return [None if number is None else round(number, 4) for number in (of.value, of.low, of.high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dials", nargs="+", default=[], help="names without their numbers, like safe_merge; all if left out"
    )
    parser.add_argument("--measured", type=Path, help="a clone where this ran: only keep its figures")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        folder = arguments.measured or Path(scratch) / "clone"
        if arguments.measured is None:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
            run(folder, arguments.dials)
        found, dials = summary(folder), matched(folder)
    if arguments.dials or arguments.measured:  # those that were left out stay as an earlier run found them
        before = json.loads((FOLDER / "safety_merges.json").read_text(encoding="utf-8"))["recipes"]
        found = {name: of for name, of in before.items() if name != "machine"} | found
    keep("safety_merges", recipes=found, matched=dials)
    say(f"{len(found)} recipes, {len(dials)} dials at matched safety")


if __name__ == "__main__":
    run_stage(main)
