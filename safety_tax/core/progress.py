"""The progress bar of a long stage; in a log file, a line now and then."""

from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from safety_tax.core.clock import clock
from safety_tax.core.console import console

LOG_EVERY = 30.0  # seconds between two lines of a bar in a log file


class RateColumn(ProgressColumn):
    """Units a second, over the last moments; the unit comes from the task's `unit` field."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        done = task.completed - task.fields.get("taken_up", 0)
        if speed is None and done > 0 and task.elapsed:
            speed = done / task.elapsed  # all of it came at once
        if speed is None:
            return Text("")
        return Text(f"{speed:,.{0 if speed >= 10 else 1}f} {task.fields.get('unit', 'items')}/s")


class LoggedProgress(Progress):
    """A bar that is drawn anew on a terminal, and in a log file is a line now and then and one at the end."""

    _logged: float | None = None

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task by a number of steps."""
        super().advance(task_id, advance)
        self._log_now_and_then()

    def take_up(self, task_id: TaskID, count: float) -> None:
        """Count what an earlier run has done: it is done, and no part of this run's rate."""
        task = self.tasks[self.task_ids.index(task_id)]
        fields = task.fields | {"taken_up": task.fields.get("taken_up", 0) + count}
        self.reset(task_id, completed=int(task.completed + count), **fields)

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Set a task's fields, as rich does."""
        super().update(task_id, **fields)
        self._log_now_and_then()

    def _log_now_and_then(self) -> None:
        now = self.get_time()
        self._logged = now if self._logged is None else self._logged
        for task in self.tasks:
            if not task.finished and task.total:
                clock.note(task.description, task.completed, task.total, task.fields.get("taken_up", 0))
        if not self.console.is_terminal and now - self._logged >= LOG_EVERY and not self.finished:
            self._logged = now
            self.console.print(self.get_renderable())


def progress_bar() -> LoggedProgress:
    """A bar with count, rate and time left."""
    return LoggedProgress(
        TextColumn("  {task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )
