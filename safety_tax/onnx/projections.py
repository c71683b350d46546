"""Where a traced graph's layers have their queries, keys and values, before these are rotated."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from safety_tax.core.errors import PipelineError


class Projections:
    """Finds them by the names that Transformers' modules have; the gate of an export tells whether they are."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._nodes = list(graph.node)
        self._named: dict[str, onnx.NodeProto] = {node.name: node for node in self._nodes}
        self._made = {name: node for node in self._nodes for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._added: list[onnx.NodeProto] = []

    def node(self, name: str) -> onnx.NodeProto:
        """The node of that name; raises PipelineError when there is none."""
        if name not in self._named:
            raise PipelineError(
                f"Expected the node {name} in the traced graph, found none; set export.grouped_query to false in "
                "params.yaml for this architecture."
            )
        return self._named[name]

    def of(self, attention: str) -> list[str]:
        """Names of queries, keys and values, each [batch, time, heads x head size], of the layer at that path."""
        fused = self._named.get(f"{attention}/qkv_proj/MatMul")
        if fused is not None:  # Phi-3's: three slices, in this order
            parts = [n.output[0] for n in self._nodes if n.op_type == "Slice" and n.input[0] == fused.output[0]]
            if len(parts) == 3:
                return parts
        found = []
        for kind in "qkv":
            biased = f"{attention}/{kind}_proj/Add"
            projected = self.node(biased if biased in self._named else f"{attention}/{kind}_proj/MatMul").output[0]
            found.append(self._normed(f"{attention}/{kind}_norm/") or projected)
        return found

    def _normed(self, path: str) -> str | None:
        """What the norm at that path gives, its heads in one row again; None where there is none."""
        inside = [node for name, node in self._named.items() if name.startswith(path)]
        if not inside:
            return None
        (given,) = (
            name
            for node in inside
            for name in node.output
            if any(not reader.name.startswith(path) for reader in self._readers.get(name, ()))
        )
        made = self._made
        if any(made[name].op_type == "Transpose" for node in inside for name in node.input if name in made):
            # Gemma-3's comes after the heads have changed places with the time.
            back = f"{path}back"
            self._added.append(helper.make_node("Transpose", [given], [back], back, perm=[0, 2, 1, 3]))
            given = back
        flat = f"{path}flat"
        whole = numpy_helper.from_array(np.array([0, 0, -1], np.int64), f"{flat}.shape")
        self._added.append(helper.make_node("Constant", [], [whole.name], whole.name, value=whole))
        self._added.append(helper.make_node("Reshape", [given, whole.name], [flat], flat))
        return flat

    def take_added(self) -> list[onnx.NodeProto]:
        """The nodes that the last layer's names need and the graph has not."""
        added, self._added = self._added, []
        return added
