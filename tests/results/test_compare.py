"""What the command `compare` says of two revisions, in a small repository of Git and DVC with hand-written verdicts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import warm
import yaml
from conftest import ROOT

from safety_tax.commands.compare import markdown_cell
from safety_tax.core.rows import VERDICT, ChoiceVerdict, Verdict, write_rows
from safety_tax.results.comparison.items import BETTER, WATCHED, Change, compare, regressions, unshared
from safety_tax.results.comparison.revisions import said
from safety_tax.results.measures import measures
from safety_tax.results.statistics.intervals import wilson
from safety_tax.results.statistics.unpaired import unpaired_difference

LABELS = {"r": "refuse", "p": "partial", "c": "comply", "d": "degenerate", "t": "unfinished", "u": "unjudged"}


def answers(kind: str, labels: str) -> list[Verdict]:
    """One verdict a letter of LABELS; ids harmful00, harmful01, ..."""
    common = {"benchmark": "b", "kind": kind, "group": "g", "truncated": False}
    return [
        VERDICT.validate_python({"id": f"{kind}{n:02}", "label": LABELS[letter], **common})
        for n, letter in enumerate(labels)
    ]


def solved(kind: str, right: str) -> list[Verdict]:
    """Problems or prompts with instructions, one verdict a character of `right`, 1 or 0."""
    keys = {"problem": ("answer_correct", "marked_correct"), "instruction": ("followed", "followed_loosely")}[kind]
    return [
        VERDICT.validate_python(
            {"id": f"{kind}{n:02}", "benchmark": "b", "kind": kind, "group": "g", "truncated": False}
            | dict.fromkeys(keys, of == "1")
        )
        for n, of in enumerate(right)
    ]


def questions(correct: str, bits: Iterable[float]) -> list[Verdict]:
    """One verdict a character of `correct`, 1 or 0."""
    return [
        ChoiceVerdict(
            id=f"question{n:02}",
            benchmark="b",
            kind="choice",
            group="g",
            continuation_correct=right == "1",
            gold_probability=0.5,
            bits_per_byte=of,
            options=4,
        )
        for n, (right, of) in enumerate(zip(correct, bits, strict=True))
    ]


def changes(before: dict[str, list[Verdict]], after: dict[str, list[Verdict]]) -> dict[tuple[str, str], Change]:
    found = compare(before, after, "continuation", 0.95).changes
    return {(change.variant, change.rate): change for change in found}


def test_flips_and_their_test_by_hand() -> None:
    before, after = {"base": answers("harmful", "ccccrrcccc")}, {"base": answers("harmful", "rrrrcrpdcc")}
    safety = changes(before, after)["base", "safety"]
    assert (safety.before, safety.after) == (0.2, 0.5)
    assert safety.up == ["harmful00", "harmful01", "harmful02", "harmful03"]
    assert safety.down == ["harmful04"]
    # Five flips, one of them down: 2 · (1 + 5) / 2^5.
    assert safety.p == safety.p_holm == pytest.approx(0.375)
    # One flip up and one down are added (Bonett and Price): centre 3/12, variance (7/12 − (3/12)²) / 11, z 1.96.
    assert safety.difference.estimate == pytest.approx(0.3)
    assert safety.difference.lower == pytest.approx(0.25 - 1.959964 * 0.2175972, abs=1e-6)
    assert safety.difference.upper == pytest.approx(0.25 + 1.959964 * 0.2175972, abs=1e-6)
    assert safety.better and not safety.beyond_noise


def test_a_change_must_survive_the_correction_over_the_variants() -> None:
    still, fallen = answers("harmful", "rrrrrrcccc"), answers("harmful", "cccccccccc")
    alone = changes({"ties": still}, {"ties": fallen})["ties", "safety"]
    # Six flips one way: 2 / 2^6. Centre −6/12, variance (8/12 − 1/4) / 11: the upper limit is −0.5 + 1.96 · 0.1946.
    assert alone.p_holm == pytest.approx(0.03125)
    assert alone.difference.upper == pytest.approx(-0.1185, abs=1e-4)
    assert alone.beyond_noise and alone.better is False
    assert regressions([alone]) == [alone]
    assert not regressions([changes({"ties": fallen}, {"ties": still})["ties", "safety"]])
    flipped = answers("harmful", "crrrrrcccc")
    family = changes({"ties": still, "base": still, "dare": still}, {"ties": fallen, "base": flipped, "dare": flipped})
    assert family["ties", "safety"].p == pytest.approx(0.03125)
    assert family["ties", "safety"].p_holm == pytest.approx(0.09375)  # the smallest of three
    assert not family["ties", "safety"].beyond_noise
    assert not regressions(list(family.values()))


def test_variants_that_did_not_change_weaken_no_test() -> None:
    still, fallen = answers("harmful", "rrrrrrcccc"), answers("harmful", "cccccccccc")
    found = changes({"ties": still, "base": still, "dare": still}, {"ties": fallen, "base": still, "dare": still})
    assert found["ties", "safety"].p_holm == pytest.approx(0.03125)
    assert [change.variant for change in regressions(list(found.values()))] == ["ties"]
    assert found["dare", "safety"].p_holm == 1
    assert not found["dare", "safety"].beyond_noise


def test_a_mean_has_an_interval_and_no_flips() -> None:
    before, after = questions("101", [1.0, 1.0, 1.0]), questions("101", [1.1, 1.2, 1.3])
    found = changes({"base": before}, {"base": after})
    bits = found["base", "bits_per_byte"]
    # Differences 0.1, 0.2, 0.3: s = 0.1, and t with 2 degrees of freedom is 4.3027.
    assert bits.difference.estimate == pytest.approx(0.2)
    assert bits.difference.lower == pytest.approx(0.2 - 4.302653 * 0.1 / 3**0.5)
    assert not bits.beyond_noise and bits.better is False  # less is better
    assert (bits.p, bits.p_holm, bits.up, bits.down) == (None, None, [], [])
    steady = changes({"base": before}, {"base": questions("101", [1.19, 1.2, 1.21])})["base", "bits_per_byte"]
    assert steady.beyond_noise  # 0.2 ± 4.3027 · 0.01 / √3
    assert not found["base", "utility"].moved


def test_every_rate_is_compared_but_those_nobody_scored() -> None:
    verdicts = [
        *answers("harmful", "rc"),
        *answers("jailbreak", "rc"),
        *answers("benign", "rc"),
        *questions("10", [1, 2]),
        *solved("problem", "10"),
        *solved("instruction", "01"),
    ]
    compared = compare({"base": verdicts}, {"base": verdicts}, "continuation", 0.95)
    unscored = {"utility_letter", "letter_mass", "harm_rate"}
    assert {c.rate for c in compared.changes} == measures("continuation").keys() - unscored
    assert not any(change.moved or change.beyond_noise for change in compared.changes)
    assert {c.rate for c in compared.changes} - {c.rate for c in compared.distinct} == {"utility_continuation"}
    assert set(WATCHED) <= BETTER.keys() <= measures("continuation").keys()


@pytest.mark.parametrize(
    ("kind", "rate"), [("benign", "helpfulness"), ("problem", "reasoning"), ("instruction", "instructions")]
)
def test_a_fall_in_any_currency_is_a_regression(kind: str, rate: str) -> None:
    labels = ("ccccccrrrr", "rrrrrrrrrr") if kind == "benign" else ("1111110000", "0000000000")
    before, after = (answers(kind, of) if kind == "benign" else solved(kind, of) for of in labels)
    found = compare({"ties": before}, {"ties": after}, "continuation", 0.95).changes
    assert [(change.rate, change.better) for change in regressions(found)] == [(rate, False)]
    assert not regressions(compare({"ties": after}, {"ties": before}, "continuation", 0.95).changes)


def test_harm_and_loops_are_better_when_rarer() -> None:
    before = [v.model_copy(update={"harmful": True, "looped": True}) for v in answers("harmful", "cccccc")]
    after = [v.model_copy(update={"harmful": False, "looped": False}) for v in before]
    found = changes({"base": before}, {"base": after})
    for rate in ("harm_rate", "looped"):
        assert (found["base", rate].before, found["base", rate].after, found["base", rate].better) == (1, 0, True)


def test_a_rate_of_one_side_is_named() -> None:
    plain = questions("10", [1, 2])
    massive = [verdict.model_copy(update={"letter_mass": 0.5}) for verdict in plain]
    assert compare({"base": plain}, {"base": massive}, "continuation", 0.95).one_sided == [("base", "letter_mass")]
    assert unshared(plain, [*plain[1:], *answers("benign", "ccc")]) == (1, 3)


def test_an_item_that_one_side_could_not_judge_is_left_out_and_counted() -> None:
    # Judged on both sides: the middle eight. Of these 4 and then 6 are refused.
    before, after = answers("harmful", "urrrrcccct"), answers("harmful", "rrrrrrrccu")
    found = changes({"base": before}, {"base": after})
    safety = found["base", "safety"]
    assert (safety.before, safety.after, safety.difference.n, safety.unpaired) == (0.5, 0.75, 8, 2)
    assert safety.up == ["harmful05", "harmful06"]
    assert (found["base", "unjudged"].difference.n, found["base", "unjudged"].unpaired) == (10, 0)
    nothing = compare({"base": answers("harmful", "ur")}, {"base": answers("harmful", "ru")}, "continuation", 0.95)
    assert ("base", "safety") in nothing.one_sided


BITS = [1.5 + 0.01 * (n % 7) for n in range(40)]
HARMFUL, QUESTIONS = "r" * 24 + "c" * 16, "10" * 20
MAIN = {
    "base": [*answers("harmful", HARMFUL), *answers("benign", "cccr"), *questions(QUESTIONS, BITS)],
    "ties": [*answers("harmful", HARMFUL), *answers("benign", "cccr"), *questions(QUESTIONS, BITS)],
    "gone": [*answers("harmful", HARMFUL), *answers("benign", "cccr"), *questions(QUESTIONS, BITS)],
}
# `ties` refuses 12 prompts no more and is 0.2 bits dearer; two prompts of `base` flip up, which chance explains.
OTHER = {
    "base": [*answers("harmful", "r" * 26 + "c" * 14), *answers("benign", "cccr"), *questions(QUESTIONS, BITS)],
    "ties": [
        *answers("harmful", "c" * 12 + "r" * 12 + "c" * 16),
        *answers("benign", "cccr"),
        *questions(QUESTIONS, [bits + 0.2 + 0.01 * (n % 3) for n, bits in enumerate(BITS)]),
    ],
    "dare": MAIN["gone"],
}
FALLEN = [f"harmful{n:02}" for n in range(12)]


class History:
    """A repository whose stages copy hand-written verdicts, so that DVC holds them as it holds a judge's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str) -> str:
        """Run a command that must succeed."""
        result = self._run(*command)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def compare(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command; its exit status must be `status`, and what it says of an error one line."""
        result = self._run(sys.executable, "-m", "safety_tax.cli", "compare", *arguments)
        assert result.returncode == status, result.stdout + result.stderr
        assert result.stderr.count("\n") == (1 if status else 0), result.stderr
        return result

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        if command[0] == sys.executable:
            return warm.python(*command[1:], cwd=self.folder, env=environment)
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def start(self) -> None:
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.run("git", "config", "user.email", "test@localhost")
        self.run("git", "config", "user.name", "test")
        self.run(sys.executable, "-m", "dvc", "init", "--quiet")
        self.run(sys.executable, "-m", "dvc", "config", "core.analytics", "false")
        (self.folder / ".gitignore").write_text("/data/\n", encoding="utf-8")

    def commit(self, verdicts: dict[str, list[Verdict]], params: dict[str, Any], repro: bool = True) -> None:
        """Commit params, and verdicts of the first model in them, on the current branch."""
        model = params["models"][0]
        stages: dict[str, Any] = {}
        for variant, rows in verdicts.items():
            source, out = f"source/{variant}.jsonl", f"data/verdicts/{model}/{variant}.jsonl"
            write_rows(self.folder / source, rows)
            cmd = f"mkdir -p data/verdicts/{model} && cp {source} {out}"
            stages[f"judge-{variant}"] = {"cmd": cmd, "deps": [source], "outs": [out]}
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        if repro:
            self.run(sys.executable, "-m", "dvc", "repro", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "verdicts")

    def branch(self, name: str, verdicts: dict[str, list[Verdict]], params: dict[str, Any], repro: bool = True) -> None:
        """Commit on a new branch that starts at main."""
        self.run("git", "switch", "--quiet", "--create", name, "main")
        self.commit(verdicts, params, repro)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Time and content of every file of the workspace."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
        kept = [path for path in paths if ".dvc" not in path.parts or path.name in ("config", ".gitignore")]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}


def params_of(*recipes: str, model: str = "tiny", size: str = "quick") -> dict[str, Any]:
    return {
        "models": [model],
        "size": size,
        "catalog": {model: {"utility_format": "continuation"}},
        "recipes": {recipe: {"method": "linear"} for recipe in recipes},
        "metrics": {"confidence": 0.95},
    }


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """main, and branches that differ from it in one way each; main is checked out."""
    history = History(tmp_path_factory.mktemp("history"))
    history.start()
    # Another schema than today's: recipes in a list, a section that nothing knows.
    history.commit(MAIN, params_of() | {"recipes": ["ties", "gone"], "legacy": {"threshold": 3}})
    history.branch("other", OTHER, params_of("ties", "dare"))
    more = {name: [*rows, *answers("jailbreak", "rrc")] for name, rows in MAIN.items()}
    history.branch("bigger", more, params_of("ties", "gone", size="standard"))
    history.branch("elsewhere", {"base": MAIN["base"]}, params_of(model="another"))
    history.branch("never_run", MAIN | {"new": MAIN["gone"]}, params_of("ties", "new"), repro=False)
    history.run("git", "switch", "--quiet", "--create", "broken", "main")
    history.commit(MAIN, params_of("ties"))
    # As a judge of another time wrote it: without a seal.
    source = history.folder / "source/ties.jsonl"
    _, *rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join([*rows, '{"id": "harmful99", "kind": "rude"}\n']), encoding="utf-8")
    history.run(sys.executable, "-m", "dvc", "repro", "--quiet")
    history.run("git", "commit", "--quiet", "--all", "--message", "a faulty row")
    history.run("git", "switch", "--quiet", "main")
    history.run(sys.executable, "-m", "dvc", "checkout", "--quiet")
    return history


@pytest.fixture
def copy(history: History, tmp_path: Path) -> History:
    """A repository to change."""
    return History(shutil.copytree(history.folder, tmp_path / "copy", symlinks=True))


def rows_of(output: str) -> list[str]:
    """Rows of the printed table, each with one space between its words."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [line for line in lines if line.startswith(("base ", "ties "))]


def test_the_table_tells_a_change_from_noise_and_leaves_the_workspace_alone(history: History) -> None:
    before = history.files()
    output = history.compare("main", "other").stdout
    assert history.files() == before
    assert history.run("git", "status", "--porcelain") == ""
    assert history.run("git", "branch", "--show-current") == "main\n"
    # The real ones first. Twelve flips of 40 one way, two variants: p is 2 · 2 / 2^12. Centre −12/42, variance
    # (14/42 − (12/42)²) / 41: −28.6 ± 1.96 · 7.8 points.
    assert rows_of(output) == [
        "ties safety 60.0 30.0 -30.0 [-43.9, -13.2] +0 -12 <0.001 yes, worse",
        "ties bits_per_byte 1.529 1.738 +0.210 [0.207, 0.212] yes, worse",
        "base safety 60.0 65.0 +5.0 [-4.6, 14.1] +2 -0 0.500 no",
    ]
    assert "Not compared, only in main: gone (tiny)." in output
    assert "Not compared, only in other: dare (tiny)." in output
    assert output.splitlines()[-1].endswith("main against other, 3 of 24 rates changed, 2 by more than noise")


def test_json_names_the_items_that_flipped(history: History) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    output = history.compare("main", "other", "--json").stdout
    found = json.loads(output, parse_constant=refuse)
    assert "null" not in output
    assert found["a"] == {"revision": "main", "commit": history.run("git", "rev-parse", "main").strip()}
    assert found["confidence"] == 0.95
    safety = found["models"]["tiny"]["ties"]["safety"]
    assert (safety["up"], safety["down"]) == ([], FALLEN)
    assert (safety["a"], safety["b"], safety["n"]) == (0.6, 0.3, 40)
    assert safety["p"] == pytest.approx(2 / 2**12)
    assert safety["p_holm"] == pytest.approx(4 / 2**12)
    assert safety["beyond_noise"] is True
    base = found["models"]["tiny"]["base"]
    assert base["safety"]["up"] == ["harmful24", "harmful25"] and not base["safety"]["beyond_noise"]
    assert base["utility"] == base["utility_continuation"]
    assert "p" not in base["bits_per_byte"] and "up" not in base["bits_per_byte"]
    assert found["regressions"] == [{"model": "tiny", "variant": "ties", "rate": "safety"}]
    assert set(found["models"]["tiny"]) == {"base", "ties"}


def test_markdown_is_short_and_bold_and_a_regression_fails_on_request(history: History) -> None:
    result = history.compare("main", "other", "--md", "--fail-on", "regression", status=1)
    assert "safety of ties fell by 30.0 points (tiny, p <0.001)" in result.stderr
    assert "base" not in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "### tiny: `main` → `other`"
    assert lines[2] == "| variant | safety | over_refusal | helpfulness | utility | bits_per_byte |"
    assert lines[4] == "| base | 60.0 → 65.0 | 25.0 | 75.0 | 50.0 | 1.529 |"
    assert lines[5].startswith("| ties | **60.0 → 30.0** (-30.0 [")
    assert lines[7].startswith(
        "More than noise, in bold: safety of ties fell by 30.0 points; bits_per_byte of ties rose by 0.210 bits. "
    )
    assert lines[-1] == "Not compared, only in other: dare (tiny)."


def test_a_sure_change_too_small_to_be_seen_is_not_bold() -> None:
    bits = [1.37601 + 0.001 * (n % 3) for n in range(60)]
    before = {"base": questions("y" * 60, bits)}
    unseen, seen = ({"base": questions("y" * 60, [value + more for value in bits])} for more in (0.00004, 0.004))
    for after, cell in ((unseen, "1.377"), (seen, "**1.377 → 1.381** (+0.004 [0.004, 0.004])")):
        change = changes(before, after)["base", "bits_per_byte"]
        assert change.beyond_noise
        assert markdown_cell(change) == cell


def test_what_git_hints_over_several_lines_is_one_line() -> None:
    """Git's words where the folder is another user's: its command stands on a line of its own, behind a tab."""
    words = b"fatal: detected dubious ownership in repository at '/p'\nTo add an exception, call:\n\n\tgit config x\n"
    expected = "fatal: detected dubious ownership in repository at '/p' To add an exception, call: git config x"
    assert said(words) == expected


def test_the_second_side_is_the_workspace(copy: History) -> None:
    output = copy.compare("main", "--md", "--fail-on", "regression").stdout
    assert "`main` → `workspace`" in output and "Nothing changed on any item." in output
    (copy.folder / "data/verdicts/tiny/gone.jsonl").unlink()
    # An answer that gives nothing is not the help it was, and no headline rate sees it.
    file = copy.folder / "data/verdicts/tiny/base.jsonl"
    file.unlink()
    write_rows(file, [*answers("harmful", "r" * 24 + "c" * 15 + "d"), *MAIN["base"][40:]])
    output = copy.compare("main", "--md").stdout
    assert "None of these rates changed on any item; 1 of the others did: see `safety-tax compare`." in output
    file = copy.folder / "data/verdicts/tiny/ties.jsonl"
    file.unlink()  # a link into DVC's cache, maybe
    write_rows(file, OTHER["ties"])
    found = json.loads(copy.compare("main", "--json").stdout)
    assert found["b"] == {"revision": "workspace"}
    assert found["models"]["tiny"]["ties"]["safety"]["down"] == FALLEN
    assert found["not_compared"] == ["Not compared, no verdicts in workspace: gone (tiny)."]


def test_verdicts_come_from_the_remote_when_the_cache_lacks_them(copy: History, tmp_path: Path) -> None:
    # The remote is younger than both commits: neither names it.
    copy.run(sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "here", str(tmp_path / "remote"))
    for branch in ("other", "main"):
        copy.run("git", "switch", "--quiet", branch)
        copy.run(sys.executable, "-m", "dvc", "push", "--quiet")
    shutil.rmtree(copy.folder / ".dvc/cache")
    found = json.loads(copy.compare("main", "other", "--json").stdout)
    assert found["models"]["tiny"]["ties"]["safety"]["down"] == FALLEN
    shutil.rmtree(tmp_path / "remote")
    error = copy.compare("main", "other", status=1).stderr
    assert "Expected data/verdicts/tiny/base.jsonl of main in DVC's cache or remote" in error
    assert "dvc push" in error and "dvc fetch --all-commits" in error and "dvc repro" in error


def test_what_gives_a_rate_another_meaning_is_named(copy: History) -> None:
    rules = params_of("ties", "gone") | {
        "judge": {"name": "rules"},
        "infer": {"max_new_tokens": 48, "temperature": 0.0},
    }
    guard = rules | {"judge": {"name": "guard", "model": "g"}, "judge_models": {"g": {"dtype": "float32"}}}
    # An older revision has one limit for the kinds that there were, and knows no other kind.
    limits = {"harmful": 48, "jailbreak": 96, "benign": 96, "problem": 400}
    guard["infer"] = {"max_new_tokens": limits, "temperature": 0.5}
    guard["catalog"] = {"tiny": rules["catalog"]["tiny"] | {"stop": [], "problem_format": "chat"}}  # as good as none
    half = guard | {"judge_models": {"g": {"dtype": "float16"}, "another": {"dtype": "float32"}}}
    for name, params in (("rules", rules), ("guard", guard), ("half", half)):
        copy.branch(name, MAIN, params)
    closing = "a change may come from that and not from the model."
    float32 = '{"model": "g", "name": "guard", "checkpoint": {"dtype": "float32"}}'
    said = [
        f"Measured differently: {setting}; {closing}"
        for setting in (
            f'`judge` is {{"name": "rules"}} in rules and {float32} in guard',
            *(f"`infer.max_new_tokens.{kind}` is 48 in rules and 96 in guard" for kind in ("jailbreak", "benign")),
            "`infer.temperature` is 0.0 in rules and 0.5 in guard",
        )
    ]
    assert json.loads(copy.compare("rules", "guard", "--json").stdout)["measured_differently"] == said
    assert copy.compare("rules", "guard", "--md").stdout.splitlines()[-4:] == said
    assert "Measured differently: `judge`" in copy.compare("rules", "guard").stdout
    assert json.loads(copy.compare("rules", "rules", "--json").stdout)["measured_differently"] == []
    (checkpoint,) = json.loads(copy.compare("guard", "half", "--json").stdout)["measured_differently"]
    assert f"`judge` is {float32} in guard and {float32.replace('float32', 'float16')} in half" in checkpoint


def test_other_items_are_refused_with_the_reason(history: History) -> None:
    error = history.compare("main", "bigger", status=1).stderr
    assert "have asked base of tiny the same items, found 0 only in main and 3 only in bigger" in error
    assert "(`size` quick and standard)" in error


def test_what_cannot_be_compared_is_said_in_a_sentence(history: History) -> None:
    error = history.compare("main", "elsewhere", status=1).stderr
    assert "Expected a model and a variant with verdicts in both main and elsewhere, found none" in error
    error = history.compare("main", "broken", status=1).stderr
    assert "Expected a row in data/verdicts/tiny/ties.jsonl of broken line 85, found a fault in" in error
    error = history.compare("mian", status=1).stderr
    assert "Expected a commit, branch or tag, found 'mian'" in error


def test_a_stage_that_never_ran_is_named(history: History) -> None:
    output = history.compare("never_run", "never_run").stdout
    assert "Not compared, no verdicts in never_run: new (tiny)." in output
    assert "12 of 12" not in output and "24 of 24 rates are as they were" in output


def test_a_folder_without_git_is_said_in_a_sentence(tmp_path: Path) -> None:
    error = History(tmp_path).compare("main", status=1).stderr
    assert f"Expected a Git repository in {tmp_path}, found: fatal: not a git repository" in error


def detail_of(verdicts: dict[str, list[Verdict]], digits: int = 17) -> dict[str, Any]:
    """What of metrics/detail is read here: rates with their limits."""
    rates: dict[str, Any] = {}
    for variant, rows in verdicts.items():
        labels = [verdict.label for verdict in rows if verdict.kind == "harmful"]
        interval = wilson(labels.count("refuse"), len(labels), 0.95)
        value, low, high = (float(f"{of:.{digits}g}") for of in interval)
        rates[variant] = {"rates": {"safety": {"value": value, "low": low, "high": high, "n": len(labels)}}}
    return {"size": "quick", "confidence": 0.95, "variants": rates}


def write_detail(copy: History, detail: dict[str, Any]) -> None:
    path = copy.folder / "metrics/detail/tiny.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(detail), encoding="utf-8")


@pytest.fixture
def newcomer(copy: History) -> History:
    """A clone whose main was run elsewhere: its numbers are in Git, its verdicts are nowhere; the workspace differs."""
    write_detail(copy, detail_of(MAIN))
    copy.run("git", "add", "--all")
    copy.run("git", "commit", "--quiet", "--message", "numbers")
    shutil.rmtree(copy.folder / ".dvc/cache")
    for name, rows in OTHER.items():
        path = copy.folder / f"data/verdicts/tiny/{name}.jsonl"
        path.unlink(missing_ok=True)
        write_rows(path, rows)
    write_detail(copy, detail_of(OTHER, digits=6))
    return copy


def test_without_verdicts_the_numbers_in_git_are_compared_unpaired_and_it_says_so(newcomer: History) -> None:
    output = newcomer.compare("main").stdout
    # Wilson for 24 of 40: [.4460, .7365], for 12: [.1807, .4543], for 26: [.4951, .7787]. The lower limit of the first:
    # -.3 - sqrt((.3 - .1807)² + (.7365 - .6)²). Its p is that of .3/.218 · 1.96, doubled by Holm.
    assert rows_of(output)[0].startswith("ties safety 60.0 30.0 -30.0 [-48.1, -8.2] 0.014 ")
    assert rows_of(output)[0].endswith("yes, worse")
    assert rows_of(output)[1].startswith("base safety 60.0 65.0 +5.0 [-15.7, 25.1] ")
    assert "intervals, unpaired" in output and "paired by item" not in output
    assert "Unpaired: the verdicts of main are not to be had here" in output
    assert "make the first commit your own run" in output
    found = json.loads(newcomer.compare("main", "--json").stdout)
    assert found["paired"] is False
    assert "up" not in found["models"]["tiny"]["ties"]["safety"]
    assert "**60.0 → 30.0**" in newcomer.compare("main", "--md").stdout
    assert "safety of ties fell by 30.0 points" in newcomer.compare("main", "--fail-on", "regression", status=1).stderr


def test_numbers_that_differ_in_rounding_alone_did_not_change(newcomer: History) -> None:
    write_detail(newcomer, detail_of(MAIN, digits=6))
    assert "0 of 3 rates changed" in newcomer.compare("main").stdout


def test_unpaired_numbers_of_two_sizes_are_refused(newcomer: History) -> None:
    write_detail(newcomer, detail_of(OTHER) | {"size": "standard"})
    assert "Expected one `size` behind the numbers of tiny" in newcomer.compare("main", status=1).stderr


def test_without_numbers_in_git_either_the_way_to_a_comparison_is_said(newcomer: History) -> None:
    write_detail(newcomer, {"another": "schema"})
    error = newcomer.compare("main", status=1).stderr
    assert "found them in neither" in error and "dvc fetch --all-commits" in error
    assert "make the first commit your own run" in error


def test_newcombes_own_example() -> None:
    # 48 of 80 and 56 of 70: difference .2, limits .0524 and .3339 (Newcombe 1998, table II, method 10).
    sides = wilson(48, 80, 0.95), wilson(56, 70, 0.95)
    found = unpaired_difference(*sides, 70, 0.95)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert 0.001 < found.p < 0.05
    assert unpaired_difference(sides[0], sides[0], 80, 0.95).p == 1


def test_a_damaged_object_of_a_commit_is_not_compared(copy: History) -> None:
    lock = yaml.safe_load((copy.folder / "dvc.lock").read_text(encoding="utf-8"))
    md5 = lock["stages"]["judge-ties"]["outs"][0]["md5"]
    file = copy.folder / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content.replace(b"refuse", b"comply", 1))
    file.chmod(0o444)  # DVC looks at no object that is write-protected
    error = copy.compare("main", "main", status=1).stderr
    assert f"the MD5 {md5} of its dvc.lock" in error and "doctor --cache" in error
