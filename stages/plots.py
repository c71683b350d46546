"""Metrics of a model -> figures, one file each, in `metrics/figures/<model>/`.  `python -m stages.plots MODEL`

SVG, in Git. The same numbers give the same bytes with the same release of matplotlib. A figure of what was not
measured is left out.
"""

import argparse

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import FIGURES
from safety_tax.results.figures.canvas import styled, write
from safety_tax.results.figures.reading import DRAWN, read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    model = parser.parse_args().model
    run = read_run(model)
    with styled(), folder_written_atomically(FIGURES / model) as folder:
        figures = {name: figure for name, draw in DRAWN.items() if (figure := draw(run)) is not None}
        for name, figure in figures.items():
            write(figure, folder / f"{name}.svg")
    say(f"plots: {model}, {len(figures)} figures in {FIGURES / model}")


if __name__ == "__main__":
    run_stage(main)
