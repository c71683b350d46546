"""A quantised checkpoint is named by its method, from its settings or from its tensors."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint, write_checkpoint
from safety_tax.model_files.quantised import require_unpacked_config, require_unpacked_tensors

END = (
    ". Name the model that it was made from, or dequantise it (`dequantize()` of Transformers), save it in bfloat16 "
    "and give that."
)


@pytest.mark.parametrize(
    ("key", "settings", "found"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "GPTQ in 4 bits (quantization_config in m)"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes in 8 bits (q"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": False}, "bitsandbytes (q"),
        ("quantization_config", {"quant_method": "fbgemm_fp8"}, "FP8 (fbgemm) (quantization_config in m)"),
        ("quantization_config", {"quant_method": "brand_new"}, "brand_new (quantization_config in m)"),
        ("quantization_config", {"bits": None}, "an unnamed method (quantization_config in m)"),
        ("quantization", {"group_size": 64, "bits": 4}, "MLX in 4 bits (quantization in m)"),
        ("quantization_config", "gptq", "an unnamed method (quantization_config in m)"),
        ("compression_config", {"quant_method": "compressed-tensors"}, "compressed-tensors (compression_config in m)"),
    ],
)
def test_settings_say_by_what_a_checkpoint_was_packed(key: str, settings: Any, found: str) -> None:
    with pytest.raises(PipelineError) as raised:
        require_unpacked_config({key: settings}, "m")
    said = str(raised.value)
    assert said.startswith(f"Expected weights of 16 or 32 bits a number, found a checkpoint that is quantised: {found}")
    assert said.endswith(END)


def test_no_such_settings_and_null_are_no_quantisation() -> None:
    require_unpacked_config({"quantization_config": None, "dtype": "bfloat16"}, "m")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_numbers_of_16_bits_and_more_pass(dtype: Any, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"a.weight": (2,)}, np.dtype(dtype), lambda name: np.ones(2))
    require_unpacked_tensors(Checkpoint(tmp_path))


@pytest.mark.parametrize(
    ("name", "dtype", "found"),
    [
        ("a.qweight", np.int32, "GPTQ or AWQ (a.qweight in "),
        ("a.absmax", np.float32, "bitsandbytes (a.absmax in "),
        ("a.weight_scale_inv", np.float32, "FP8 (a.weight_scale_inv in "),
        ("a.weight", np.int32, "whole numbers (a.weight in "),
    ],
)
def test_tensors_show_it_where_no_setting_does(name: str, dtype: Any, found: str, tmp_path: Path) -> None:
    save_file({name: np.ones(2, dtype)}, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError) as raised:
        require_unpacked_tensors(Checkpoint(tmp_path))
    assert f"quantised: {found}" in str(raised.value) and str(raised.value).endswith(END)
