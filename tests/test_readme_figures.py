"""Figures in README.md that a benchmark kept in metrics/benchmarks/ are the kept ones."""

import json
from typing import Any

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = " ".join(README.split())
# Folders of metrics/benchmarks/, in the order of the table's columns.
MACHINES = ("", "xeon/", "avx2/")


def kept(benchmark: str) -> Any:
    return json.loads((ROOT / f"metrics/benchmarks/{benchmark}.json").read_text(encoding="utf-8"))


def row(what: str) -> list[str]:
    """The cells beside the first of a row of the table under `How fast`, without the command."""
    section = README.split("\n## How fast\n")[1].split("\n## ")[0]
    (found,) = (line for line in section.splitlines() if line.startswith(f"| {what} |"))
    return [cell.strip() for cell in found.split("|")[2:-2]]


def of_way(part: Any, name: str) -> Any:
    """A rival's figures; its name has the batch size behind it."""
    (found,) = (figures for way, figures in part["ways"].items() if way.split(",")[0] == name)
    return found


def test_the_noise_floor_was_measured() -> None:
    (noise,) = kept("noise_floor").values()
    ways = noise["differ"].values()
    assert not any(way[what] for way in ways for what in ("responses", "labels", "outcomes"))
    assert not any(noise["differ"][way]["score"] for way in ("batches of at most 7", "one thread"))
    assert f"other items beside a question {max(way['score'] for way in ways):.0e} bits a byte at most." in PROSE
    assert f"runs the base on {noise['responses']} prompts and {noise['questions']} questions" in PROSE


@pytest.mark.parametrize(
    ("what", "part"),
    [("MMLU, `letter`", "letter"), ("MMLU, `letter`, 5 shots", "few_shot"), ("MMLU, `continuation`", "continuation")],
)
def test_scoring_was_measured(what: str, part: str) -> None:
    runs = [kept(f"{machine}inference")[part] for machine in MACHINES]
    ours, theirs = (of_way(runs[0], name) for name in ("ours", "lm_eval"))
    rates = [f"{ours['questions/s']:.1f} questions/s", f"lm-evaluation-harness {theirs['questions/s']:.1f}"]
    assert row(what) == [*rates, *(f"{of_way(run, 'lm_eval')['times_slower']:.1f}" for run in runs)]
    assert not any(run["beyond_ties"] for run in runs)


def test_answers_were_measured() -> None:
    runs = [kept(f"{machine}inference")["answers"] for machine in MACHINES]
    ours, one, other = (of_way(runs[0], name) for name in ("ours", "transformers", "optimum"))
    rates = [f"{of['tokens/s']:.0f}" for of in (ours, one, other)]
    ratios = [
        ", ".join(f"{of_way(run, rival)['times_slower']:.1f}" for rival in ("transformers", "optimum")) for run in runs
    ]
    cells = [f"{rates[0]} tokens/s", f"Transformers {rates[1]}, Optimum {rates[2]}", *ratios]
    assert row("answers of 48 tokens") == cells
    pairs = zip(of_way(runs[2], "transformers")["seconds"], of_way(runs[2], "ours")["seconds"], strict=True)
    slower = sorted(theirs / mine for theirs, mine in pairs)
    assert f"(the ratio to Transformers went from {slower[0]:.1f} to {slower[-1]:.1f})" in PROSE
    assert not any(run["beyond_ties"] for run in runs)


def test_shares_of_the_matrix_rate_were_measured() -> None:
    told = []
    for machine in MACHINES:
        parts = kept(f"{machine}inference")
        shares = [of["share_of_matrix_rate"] for of in (parts["letter"], parts["answers"]["decoding"])]
        told.append([f"{share:.0%}".replace("%", " %") for share in shares] + [f"{parts['letter']['gemm_gflops']:.0f}"])
    here, xeon, avx2 = told
    assert "`letter` reaches {} and decoding {} ({} GFLOP/s beside `letter`)".format(*here) in PROSE
    assert "{} and {} on the Xeon ({} GFLOP/s)".format(*xeon) in PROSE
    assert "{} and {} on AVX2 ({} GFLOP/s)".format(*avx2) in PROSE


def test_merges_were_measured() -> None:
    speed, memory = kept("merge")["speed"], kept("merge")["memory"]
    ours, theirs = speed["ours"]["seconds"], speed["mergekit"]["seconds"]
    slower = kept("avx2/merge")["speed"]
    on_avx2 = slower["mergekit"]["seconds"] / slower["ours"]["seconds"]
    cells = [f"{ours:.1f} s", f"mergekit {theirs:.1f} s", f"{theirs / ours:.1f}", "–", f"{on_avx2:.1f}"]
    assert row("TIES, the default model's shape") == cells
    size, peak = memory["checkpoint_bytes"] / 1e9, memory["peak_bytes"] / 1e9
    assert f"A merge of three checkpoints of {size:.1f} GB each takes {peak:.1f} GB at most" in PROSE


def test_exports_were_measured() -> None:
    speed, memory = kept("export")["speed"], kept("export")["memory"]
    optimum = speed["optimum"]["median_seconds"]
    for what, way, rival in (
        ("export of a variant", "variant", "Optimum"),
        ("export of the base, both gates", "base", "Optimum, without its validation,"),
    ):
        here, on_avx2 = (of[way]["times_faster_than_optimum"] for of in (speed, kept("avx2/export")["speed"]))
        times = [f"{here:.1f}", "–", f"{on_avx2:.1f}"]
        assert row(what) == [f"{speed[way]['median_seconds']:.1f} s", f"{rival} {optimum:.1f} s", *times]
    size, peak = memory["weights_bytes"] / 1e9, max(memory[variant]["peak_bytes"] for variant in ("base", "ties")) / 1e9
    assert f"an export of a float16 model of {size:.2f} GB takes {peak:.2f} GB" in PROSE


def test_the_judge_was_measured() -> None:
    rate = kept("judge")["responses_per_second"]["200"]
    assert f"labels {round(rate, -2):,} answers of 200 characters a second" in PROSE


def test_the_whole_run_was_measured() -> None:
    whole = kept("avx2/pipeline")["repro"]
    minutes, installing = (f"{whole[key] / 60:.0f}" for key in ("seconds", "installation"))
    told = f"the default run takes {minutes} minutes, {installing} of them to install, and "
    told += f"{whole['peak_bytes'] / 1e9:.1f} GB at most; {whole['idle_seconds']:.0f} s with nothing"
    assert told in PROSE
    least, most = min(whole["recipes"].values()), max(whole["recipes"].values())
    assert f"each recipe takes {least:.0f} to {most:.0f} s" in PROSE


def test_a_million_hostile_inputs_met_no_fault() -> None:
    (run,) = kept("fuzz").values()
    assert run["faults"] == 0
    assert run["inputs"] >= 1_000_000
    assert run["guided"] >= run["inputs"] // 2
    assert f"One million hostile inputs over {run['targets']} readers and judges, half of them" in PROSE
