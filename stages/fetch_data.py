"""Dataset sources -> `data/benchmarks/<kind>.jsonl`, `shots.jsonl`; `data/tuning/`.  `python -m stages.fetch_data`

Fixes, once, which items every model is asked: stratified by group, in a seeded order that is nested, so
that a bigger size contains the smaller one. The tuning rows do not depend on the size. `shots.jsonl` holds the
solved questions and problems for few-shot, from dev and train splits, in their official order. A file of what the
benchmark set does not ask is empty.
"""

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.rows import write_rows
from safety_tax.core.workspace import BENCHMARKS, TUNING_PROMPTS
from safety_tax.datasets.selection import select
from safety_tax.params import load_params


def main() -> None:
    params = load_params()
    say("fetch_data: reading datasets")
    selected = select(params)
    with folder_written_atomically(BENCHMARKS) as folder:
        for name in selected.keys() - {"tune"}:
            write_rows(folder / f"{name}.jsonl", selected[name])
    with folder_written_atomically(TUNING_PROMPTS.parent) as folder:
        write_rows(folder / TUNING_PROMPTS.name, selected["tune"])
    say("fetch_data: " + ", ".join(f"{len(rows):,} {name}" for name, rows in selected.items()))


if __name__ == "__main__":
    run_stage(main)
