"""Nodes, weights and constants of a graph that is written node by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


@dataclass
class Pieces:
    """Nodes so far; a node's first output has its name."""

    kind: int
    weights: Mapping[str, TensorProto]
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        """Its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """The name of a constant."""
        self.initializers.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str) -> str:
        """A checkpoint's tensor, in the graph's type."""
        tensor = self.weights[name]
        if tensor.name not in self.initializers:
            self.initializers[tensor.name] = tensor
            if tensor.data_type != self.kind:
                self.add("Cast", [tensor.name], f"{tensor.name}.cast", to=self.kind)
        return tensor.name if tensor.data_type == self.kind else f"{tensor.name}.cast"

    def linear(self, hidden: str, layer: str) -> str:
        """A linear layer with its bias, if it has one; its weight lies as the checkpoint's, [out, in]."""
        weight = self.weight(f"{layer}.weight")
        found = self.add("FusedMatMul", [hidden, weight], layer, "com.microsoft", transB=1)
        if f"{layer}.bias" in self.weights:
            found = self.add("Add", [found, self.weight(f"{layer}.bias")], f"{layer}.biased")
        return found

    def norm(self, hidden: str, layer: str, epsilon: float, add_one: bool = False) -> str:
        """Root mean square norm over the last axis; with `add_one` by 1 + weight, in float32 as Gemma has it."""
        kind, scale = self.kind, f"{layer}.weight"
        if add_one:
            self.kind = TensorProto.FLOAT
            one = self.constant("one", np.array(1, np.float32))
            scale = self.add("Add", [self.weight(scale), one], f"{layer}.scale")
            self.kind = kind
        else:
            scale = self.weight(scale)
        widened = add_one and kind != TensorProto.FLOAT
        if widened:
            hidden = self.add("Cast", [hidden], f"{layer}.wide", to=TensorProto.FLOAT)
        name = f"{layer}.normed" if widened else layer
        found = self.add("SimplifiedLayerNormalization", [hidden, scale], name, axis=-1, epsilon=epsilon, stash_type=1)
        return self.add("Cast", [found], layer, to=kind) if widened else found

    def add_and_norm(
        self, hidden: str, more: str, layer: str | None, epsilon: float, add_one: bool = False
    ) -> tuple[str, str]:
        """The norm of a sum, and the sum; without a layer the sum is not normed."""
        if layer is None or add_one:
            total = self.add("Add", [hidden, more], f"{more}.sum")
            return (total if layer is None else self.norm(total, layer, epsilon, add_one)), total
        total = f"{layer}.sum"
        outputs = [layer, "", "", total]
        inputs = [hidden, more, self.weight(f"{layer}.weight")]
        made = helper.make_node("SkipSimplifiedLayerNormalization", inputs, outputs, layer, domain="com.microsoft")
        made.attribute.append(helper.make_attribute("epsilon", epsilon))
        self.nodes.append(made)
        return layer, total

    def times(self, values: str, factor: float, name: str) -> str:
        """Values times a number that is not rounded: PyTorch, too, multiplies 16 bits by a Python number in float32."""
        if factor == 1:
            return values
        number = self.constant(f"times_{factor}", np.array(factor, np.float32))
        if self.kind == TensorProto.FLOAT:
            return self.add("Mul", [values, number], name)
        wide = self.add("Cast", [values], f"{name}.wide", to=TensorProto.FLOAT)
        return self.add("Cast", [self.add("Mul", [wide, number], f"{name}.product")], name, to=self.kind)

    def parts(self, values: str, sizes: Sequence[int]) -> list[str]:
        """Values [..., sum of sizes], cut along their last axis."""
        made = [f"{values}.{place}" for place in range(len(sizes))]
        cut = self.constant("sizes_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [values, cut], made, f"{values}.cut", axis=-1))
        return made
