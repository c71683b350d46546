"""SCALE.md: its figures are the command's, its formulas those of what was run, its simulation that of the formulas."""

import dataclasses

import pytest
import yaml
from benchmarks.scale import CLUSTERS, PAGE, Assumptions, Cluster, costs, page, simulate, work
from conftest import ROOT


def test_the_page_is_what_the_command_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(Assumptions())


def test_the_size_of_a_variant_is_that_of_the_default_run() -> None:
    """dvc.lock has the bytes of SmolLM2-135M, in float32."""
    copy = costs(dataclasses.replace(Assumptions(), weights=134.5e6, weight_bytes=4)).fetch
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    sizes = [stage["outs"][0]["size"] for name, stage in stages.items() if name.startswith(("merge@", "export"))]
    assert len(sizes) >= 13
    for size in sizes:
        assert size == pytest.approx(copy + Assumptions().shared_bytes / 2, rel=0.03)


def test_one_clone_takes_the_sum_of_its_steps() -> None:
    """With nobody to wait for, the simulation is the arithmetic."""
    a = Assumptions()
    for cluster in CLUSTERS[:2]:
        steps = [step for _ in range(int(a.models)) for step in work(a, cluster)]
        hours = sum(step.seconds + step.bytes / a.link for step in steps) / 3600
        assert simulate(a, cluster).hours == pytest.approx(hours)


def test_clones_wait_for_a_slow_remote_and_for_nothing_else() -> None:
    a = dataclasses.replace(Assumptions(), models=8, store=3.1e9)
    cluster = Cluster("eight", 8, 1, 1, 1)
    alone = simulate(dataclasses.replace(a, models=1), Cluster("one", 1, 1, 1, 1)).hours
    # The remote serves one at a time: the last of eight begins seven transfers later.
    assert simulate(a, cluster).hours == pytest.approx(alone + 7 * costs(a).fetch / a.link / 3600)
    assert simulate(dataclasses.replace(a, store=1e12), cluster).hours == pytest.approx(alone)


def test_gpus_work_no_more_than_all_the_time() -> None:
    for cluster in CLUSTERS:
        assert 0 < simulate(Assumptions(), cluster).gpu_share <= 1
