"""How far a run has come: what is done, runs now and is to come, and how long it will take.  `safety-tax status`

It may be asked at any time, also while `dvc repro` runs in another terminal or writes to a log: it locks nothing and
changes nothing. With --watch it goes on until the run ends. Times are those that the stages took on this machine;
for a first run they are those of `safety-tax doctor`.
"""

import argparse
import platform
import time
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table
from rich.text import Text

from safety_tax.checkup.progress import StageState, dvc_at_work, stage_states
from safety_tax.checkup.time_left import TimeLeft, expected_seconds, read_expected, time_left
from safety_tax.core.console import console, say
from safety_tax.core.workspace import PARAMS_FILE
from safety_tax.core.yaml_text import parse_yaml

EVERY = 2.0
"""Seconds between two looks of --watch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--watch", action="store_true", help="look again every two seconds, until nothing runs")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    states = stage_states()
    if arguments.watch and console.is_terminal:
        with Live(screen(states), console=console, auto_refresh=False) as live:
            for states in looks():
                live.update(screen(states), refresh=True)
    elif arguments.watch:  # a log: a line whenever a stage began or ended
        told: list[tuple[str, str]] = []
        for states in looks():
            if told != (told := [(of.name, of.state) for of in states]):
                say(sentence(states))
        return
    else:
        console.print(screen(states))
    say(sentence(states))


def looks() -> Iterator[list[StageState]]:
    """Every two seconds how it stands, until nothing runs twice in a row: DVC is at nothing for a moment at times."""
    idle = 0
    while True:
        states = stage_states()
        yield states
        idle = 0 if dvc_at_work() or any(of.state == "running" for of in states) else idle + 1
        if idle == 2:
            return
        time.sleep(EVERY)


def times(states: Sequence[StageState]) -> dict[str, float]:
    """Seconds that each stage is expected to take."""
    size = parse_yaml(PARAMS_FILE.read_bytes()).get("size")
    return expected_seconds(states, read_expected(size))


def screen(states: Sequence[StageState]) -> Table:
    """A line a kind of stage: it fits a screen, however many recipes there are."""
    expected = times(states)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("stage", "done", "now", "time"):
        table.add_column(head, justify="right" if head in ("done", "time") else "left", overflow="fold")
    for verb in dict.fromkeys(of.verb for of in states):
        mine = [of for of in states if of.verb == verb]
        done = sum(of.state == "done" for of in mine)
        told = "; ".join(filter(None, (_of_one(of) for of in mine)))
        if not told:
            told = "done" if done == len(mine) else "to come"
        style = {"done": "green", "to come": "dim"}.get(told, "bold red" if "failed" in told else "bold")
        row = (verb, f"{done} of {len(mine)}", told, _time(mine, expected))
        table.add_row(*map(Text, row), style=style)
    return table


def _of_one(of: StageState) -> str:
    """What one stage is at; empty for one that is done or to come."""
    which = of.name.partition("@")[2]
    match of.state:
        case "running":
            assert of.record is not None
            part = f", {of.record.part} {of.record.done:,.0f} of {of.record.total:,.0f}" if of.record.part else ""
            return f"running {which}{part}".replace(" ,", ",")
        case "failed" | "stopped":
            return f"{of.state} {which}".rstrip()
        case _:
            return ""


def _time(mine: Sequence[StageState], expected: dict[str, float]) -> str:
    """Time left of a kind, or how long it took."""
    waiting = [of for of in mine if of.state != "done"]
    if not waiting:
        took = [of.record.seconds for of in mine if of.record and of.record.seconds is not None]
        return shown(sum(took)) if len(took) == len(mine) else ""
    left = time_left(waiting, expected)
    return "" if left.unknown else f"{shown(left.seconds)} left"


def sentence(states: Sequence[StageState]) -> str:
    """Where the run stands, in one sentence, and what to do next."""
    done = [of for of in states if of.state == "done"]
    left = _left(time_left(states, times(states)))
    opening = f"status: {len(done)} of {len(states)} stages are done"
    now = [of for of in states if of.state == "running"]
    if now:
        since = max(time.time() - of.record.started for of in now if of.record)
        elsewhere = {of.record.machine for of in now if of.record} if _other_machine(now) else set()
        where = f" on {', '.join(sorted(elsewhere))}" if elsewhere else ""
        return f"{opening}; {', '.join(of.name for of in now)} has run for {shown(since)}{where}; {left}"
    if dvc_at_work():
        return f"{opening}; DVC is between two stages, {left}"
    broken = [of for of in states if of.state in ("failed", "stopped") and of.record]
    if broken:
        last = max(broken, key=lambda of: of.record.started if of.record else 0.0)
        why = last.record.error if last.record and last.record.error else "its process was ended from outside"
        return f"{opening}; {last.name} {last.state}: {why.rstrip('.')}; then `dvc repro` goes on, {left}"
    if len(done) == len(states):
        return f"{opening}: nothing is to run; `dvc metrics show` and `safety-tax report` show the results"
    if not done and not any(of.record for of in states):
        return f"{opening}: nothing has run; `dvc repro` begins, {left}"
    return f"{opening}, and nothing runs now; `dvc repro` goes on with the others, {left}"


def _other_machine(now: Sequence[StageState]) -> bool:
    return any(of.record and of.record.machine != platform.node() for of in now)


def _left(left: TimeLeft) -> str:
    if left.unknown:
        known = f"at least {shown(left.seconds)} are left" if left.seconds >= 1 else "the time left is not known"
        return f"{known} (`safety-tax doctor` measures this machine)"
    return f"about {shown(left.seconds)} left"


def shown(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
