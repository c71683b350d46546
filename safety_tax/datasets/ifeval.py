"""IFEval (Zhou et al. 2023, arXiv:2311.07911): 541 prompts with instructions that a program verifies."""

from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.extras import from_extra
from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table

COLUMNS = {"prompt": str, "instruction_id_list": list, "kwargs": list}


def read(source: Path) -> list[Item]:
    """The prompts; the group is the first instruction's family, such as `length_constraints`.

    Raises PipelineError for an instruction that no checker knows, or without one of its arguments.
    """
    checkers = from_extra("if_verifiable.ifeval.instructions_registry", "instructions", "the dataset ifeval")
    items = []
    for row in read_table(source, ("ifeval_input_data.jsonl",), COLUMNS):
        names, arguments = row["instruction_id_list"], row["kwargs"]
        if not names or len(names) != len(arguments):
            raise PipelineError(
                f"Expected as many arguments as instructions of IFEval, and one at least, found {len(arguments)} and "
                f"{len(names)} for {row['prompt'][:60]!r}; use the commit that params.yaml shipped with."
            )
        # The table has a column for every argument that some row has.
        given = [{key: value for key, value in (each or {}).items() if value is not None} for each in arguments]
        checks = [{"instruction": name, "arguments": each} for name, each in zip(names, given, strict=True)]
        for check in checks:
            _require_checkable(check, checkers.INSTRUCTION_DICT, row["prompt"])
        # As it stands: one instruction asks for the prompt word for word.
        items.append(Item(group=names[0].partition(":")[0], text=row["prompt"], checks=checks))
    return items


def _require_checkable(check: dict[str, Any], checkers: dict[str, Any], prompt: str) -> None:
    name, arguments = check["instruction"], check["arguments"]
    if name not in checkers:
        raise PipelineError(
            f"Expected known instructions in IFEval, found {name!r} in {prompt[:60]!r}; {did_you_mean(name, checkers)}"
        )
    # The checker would draw a missing argument at random.
    if missing := set(checkers[name](name).get_instruction_args_keys()) - set(arguments):
        raise PipelineError(
            f"Expected the argument {min(missing)!r} of IFEval's instruction {name!r}, found none in {prompt[:60]!r}; "
            "use the commit that params.yaml shipped with."
        )
