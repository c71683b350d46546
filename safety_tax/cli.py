"""The command `safety-tax`: what people run by hand. DVC runs the stages, by `python -m stages.<verb>`."""

import argparse
import importlib
import sys
from functools import partial
from importlib.metadata import version

from safety_tax.core.interrupt import stop_while_importing

COMMANDS = {
    "init": "begin a project in an empty folder: params.yaml, dvc.yaml and what they need",
    "doctor": "can this machine run params.yaml, and how long will it take?",
    "bring": "bring answers that were generated elsewhere, to be judged and measured",
    "status": "what of a run is done, runs now and is to come, and how long will it take?",
    "compare": "which differences between two Git revisions are more than noise?",
    "sweep": "run recipes at many settings and draw their frontiers",
    "report": "write a model's run as one HTML page, to look at offline",
    "card": "write a merged model with its card, ready for the Hugging Face Hub",
    "label": "label the run's own answers by hand, to measure the judge",
    "audit": "measure the judge against answers that people labelled",
    "stage": "run one stage, as dvc.yaml of a project begun by `init` does",
}
"""In the order of a person's first day."""


def parser_of(name: str, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of one command, completed by its module."""
    module = importlib.import_module(f"safety_tax.commands.{name}")
    parser.description = module.__doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    return parser


def overview() -> argparse.ArgumentParser:
    """The parser of everything that stands before a command."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="safety-tax",
        usage="safety-tax COMMAND …",
        description=f"What does safety cost when language models are merged?\n\ncommands:\n{listed}",
        epilog="`safety-tax COMMAND --help` explains a command. `dvc repro` runs the pipeline.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"safety-tax {version('safety-tax')}")
    parser.add_argument("--completion", choices=("bash", "zsh", "tcsh"), help="print a completion script for a shell")
    return parser


def completion(shell: str) -> str:
    """A script that completes commands and options."""
    import shtab

    parser = argparse.ArgumentParser(prog="safety-tax")
    commands = parser.add_subparsers()
    for name, purpose in COMMANDS.items():
        parser_of(name, commands.add_parser(name, help=purpose))
    script: str = shtab.complete(parser, shell=shell)
    return script


def run_command(name: str) -> None:
    """Parse what stands behind the command's name, and run it."""
    parser = parser_of(name, argparse.ArgumentParser(prog=f"safety-tax {name}"))
    importlib.import_module(f"safety_tax.commands.{name}").run(parser.parse_args(sys.argv[2:]))


def main() -> None:
    """Run the command that the arguments name; near matches for one that there is not."""
    stop_while_importing()
    name = (sys.argv[1:] or [""])[0]
    if name not in COMMANDS:
        parser = overview()
        if name and not name.startswith("-"):
            from safety_tax.core.errors import did_you_mean

            parser.exit(2, f"Expected a command of safety-tax, found {name!r}; {did_you_mean(name, COMMANDS)}\n")
        options = parser.parse_args()
        if options.completion:
            print(completion(options.completion))
        else:
            parser.print_help()
        return
    from safety_tax.core.console import run_stage

    run_stage(partial(run_command, name))


if __name__ == "__main__":
    main()
