"""A package of an optional extra is there, or the sentence has the command that installs it."""

import json.decoder

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.core.extras import from_extra


def test_an_installed_package_is_imported() -> None:
    assert from_extra("json.decoder", "reasoning", "gsm_symbolic") is json.decoder


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_a_missing_package_is_named_with_its_extra(module: str) -> None:
    with pytest.raises(PipelineError) as raised:
        from_extra(module, "reasoning", "the dataset gsm_symbolic")
    assert str(raised.value) == (
        "Expected the package no_such_package for the dataset gsm_symbolic, found it not installed (No module named "
        "'no_such_package'); run `pip install -e '.[reasoning]'`."
    )
