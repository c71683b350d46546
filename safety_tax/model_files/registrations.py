"""Families that Optimum leaves out, registered in its manner: its own configuration and patch of a close relative."""

from typing import Any

from optimum.exporters.onnx.config import TextDecoderWithPositionIdsOnnxConfig
from optimum.exporters.onnx.model_configs import (
    COMMON_TEXT_GENERATION_TASKS,
    GLMOnnxConfig,
    MistralOnnxConfig,
    Olmo2OnnxConfig,
    Qwen3OnnxConfig,
)
from optimum.exporters.onnx.model_patcher import ModelPatcher, qwen3_moe_forward_patched
from optimum.exporters.tasks import TasksManager
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

_register = TasksManager.create_register("onnx", overwrite_existing=False)


class AllExperts(ModelPatcher):  # type: ignore[misc]  # Optimum has no types
    """Runs every expert on the tokens that chose it: which experts those are is not known when a graph is traced."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        self._forward = MixtralSparseMoeBlock.forward
        block: Any = MixtralSparseMoeBlock
        block.forward, block.norm_topk_prob = qwen3_moe_forward_patched, True  # "only diff with mixtral", it says
        return entered

    def __exit__(self, *error: Any) -> None:
        block: Any = MixtralSparseMoeBlock
        block.forward = self._forward
        del block.norm_topk_prob
        super().__exit__(*error)


@_register("mixtral", *COMMON_TEXT_GENERATION_TASKS)
class MixtralOnnxConfig(MistralOnnxConfig):  # type: ignore[misc]
    """Mistral's attention, and experts."""

    _MODEL_PATCHER = AllExperts


@_register("glm4", *COMMON_TEXT_GENERATION_TASKS)
class Glm4OnnxConfig(GLMOnnxConfig):  # type: ignore[misc]
    """GLM with two more norms a layer."""


@_register("exaone4", *COMMON_TEXT_GENERATION_TASKS)
class Exaone4OnnxConfig(Qwen3OnnxConfig):  # type: ignore[misc]
    """Norms of queries and keys as Qwen3's."""


@_register("olmo3", *COMMON_TEXT_GENERATION_TASKS)
class Olmo3OnnxConfig(Olmo2OnnxConfig):  # type: ignore[misc]
    """OLMo-2 with windows."""


DECODER = TextDecoderWithPositionIdsOnnxConfig.__mro__[1]
"""What Optimum's configurations of decoders have in common."""
