"""The results of a model for a notebook."""

from pathlib import Path

import pandas as pd

from stages.lib.results.variant import read_results

DETAIL = Path("metrics/detail")


def load_results(model: str, project: Path = Path()) -> pd.DataFrame:
    """One row a variant, `base` first, one column a number: `safety`, `safety_gain_lo`, `helpfulness_tax`, ….

    Fractions, as in `metrics/<model>.json`; a number that a variant does not have is missing. `project` is the
    repository's folder. Raises PipelineError when the model has no results there.
    """
    results = read_results(project / DETAIL / f"{model}.json")
    rows = {name: variant.flat() for name, variant in results.variants.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")
