"""`params.yaml`, typed: the sections, the whole, and how it is read.

Every stage validates the whole file before it starts, so a misspelt key of the last stage stops the
first one. No stage declares this folder as a dependency: it holds no values, and the values that a stage
uses are tracked by DVC as `params:`; a better check here must not re-run a GPU job.
"""

from safety_tax.params.reading import load_params, read_params, validated
from safety_tax.params.sections import (
    AnyJudge,
    ClassifierJudge,
    Curvature,
    Dataset,
    Donor,
    DonorSource,
    Export,
    FetchData,
    FolderSource,
    GeneratedSource,
    GivenDonor,
    GuardJudge,
    HubDatasetSource,
    HubSource,
    Infer,
    JudgeModel,
    Metrics,
    Model,
    NewTokens,
    Prompting,
    RulesJudge,
    Run,
    Source,
    Table,
    Tune,
    WheelSource,
)
from safety_tax.params.whole import Params

__all__ = [
    "AnyJudge",
    "ClassifierJudge",
    "Curvature",
    "Dataset",
    "Donor",
    "DonorSource",
    "Export",
    "FetchData",
    "FolderSource",
    "GeneratedSource",
    "GivenDonor",
    "GuardJudge",
    "HubDatasetSource",
    "HubSource",
    "Infer",
    "JudgeModel",
    "Metrics",
    "Model",
    "NewTokens",
    "Params",
    "Prompting",
    "RulesJudge",
    "Run",
    "Source",
    "Table",
    "Tune",
    "WheelSource",
    "load_params",
    "read_params",
    "validated",
]
