"""What a library raises for a model that does not hold together."""

# What Transformers raises, somewhere within, for a configuration that does not hold together.
FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    ImportError,
    OSError,
    MemoryError,
)
