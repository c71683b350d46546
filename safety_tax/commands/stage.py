"""One stage of a project that was begun by `safety-tax init`.  `safety-tax stage infer MODEL VARIANT`

Its `dvc.yaml` calls this; in a checkout of the repository, `python -m stages.<verb>` does the same.
"""

import argparse
import sys
from importlib import import_module
from importlib.metadata import version

import stages
from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.registry import names_of
from safety_tax.core.workspace import VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("verb", help=f"one of {', '.join(names_of(stages))}")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the stage takes")


def run(arguments: argparse.Namespace) -> None:
    """Run the stage; raises PipelineError where the project was made for another version."""
    verbs = names_of(stages)
    if arguments.verb not in verbs:
        raise PipelineError(f"Expected a stage, found {arguments.verb!r}; {did_you_mean(arguments.verb, verbs)}")
    if VERSION.exists():
        expected, found = VERSION.read_text(encoding="utf-8").strip(), version("safety-tax")
        if expected != found:
            raise PipelineError(
                f"Expected safety-tax {expected}, as {VERSION} of this project says, found {found}; install that "
                "version, or run `safety-tax init --upgrade` and then `dvc repro`."
            )
    sys.argv = [f"stages.{arguments.verb}", *arguments.arguments]
    import_module(f"stages.{arguments.verb}").main()
