"""`params.yaml` as a whole, and how it is read; its sections are typed in `settings`.

Every stage validates the whole file before it starts, so a misspelt key of the last stage stops the first one.
"""

from safety_tax.params.reading import load_params, read_params, validated
from safety_tax.params.whole import Params

__all__ = ["Params", "load_params", "read_params", "validated"]
