"""Checkpoints whose weights are packed into fewer bits: named as what they are."""

from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint

SETTINGS = ("quantization_config", "compression_config", "quantization")  # the last is MLX's
# What the formats call the parts of a packed weight.
PARTS = {
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "absmax": "bitsandbytes",
    "SCB": "bitsandbytes",
    "weight_packed": "compressed-tensors",
    "weight_scale": "FP8 or compressed-tensors",
    "weight_scale_inv": "FP8",
}
METHODS = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (fbgemm)",
    "compressed-tensors": "compressed-tensors",
    "mxfp4": "MXFP4",
}


def require_unpacked_config(config: dict[str, Any], where: str) -> None:
    """Raises PipelineError when a configuration says that its checkpoint is quantised."""
    for key in SETTINGS:
        settings = config.get(key)
        if not settings:  # null, or nothing said
            continue
        method = settings.get("quant_method") if isinstance(settings, dict) else None
        if method is None and isinstance(settings, dict) and "group_size" in settings:
            method = "MLX"
        name = METHODS.get(str(method), str(method or "an unnamed method")[:40])
        bits = [bits for bits in (4, 8) if isinstance(settings, dict) and settings.get(f"load_in_{bits}bit")]
        if isinstance(settings, dict) and type(settings.get("bits")) is int:
            bits = [settings["bits"]]
        raise _refusal(f"{name}{f' in {bits[0]} bits' if bits else ''} ({key} in {where})")


def require_unpacked_tensors(checkpoint: Checkpoint) -> None:
    """Raises PipelineError when the tensors are a quantised model's."""
    for name in checkpoint.names():
        part = name.rpartition(".")[2]
        if part in PARTS:
            raise _refusal(f"{PARTS[part]} ({name} in {checkpoint.path})")
        if checkpoint.dtype(name).kind not in "fV":  # ml_dtypes' bfloat16 is of the kind V
            raise _refusal(f"whole numbers ({name} in {checkpoint.path} is {checkpoint.dtype(name)})")


def _refusal(found: str) -> PipelineError:
    return PipelineError(
        f"Expected weights of 16 or 32 bits a number, found a checkpoint that is quantised: {found}. Name the model "
        "that it was made from, or dequantise it (`dequantize()` of Transformers), save it in bfloat16 and give that."
    )
