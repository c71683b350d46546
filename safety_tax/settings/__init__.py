"""The typed sections of `params.yaml`: unknown keys are refused, and the code holds no default.

No stage declares this room as a dependency: it holds no values, and those that a stage uses are tracked by DVC as
`params:`. A better check here must not re-run a GPU job.
"""
