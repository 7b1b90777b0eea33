"""ONNX graphs, and the parts of `transformer.py` as nodes, for machines without torch.

Graphs are written node by node rather than traced: at this size the number of nodes decides the run time, not the
arithmetic. The export compares every file it makes with the torch network, so the two versions cannot diverge.

Shapes: B batch, W width, R = rows of all sequences of the batch, concatenated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from pipeline.models.transformer import Block

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 23, 11  # the first with Attention as one node, and its file format

Floats = NDArray[np.float32]
Value = str | NDArray[Any] | Tensor
"""An input of a node: the name of another node's output, or a constant. An empty name omits an optional input."""

Axes = tuple[int | str, ...]
"""The shape of an input or output; a word is an axis of any length."""


class Carried(NamedTuple):
    """A loop-carried value: its name in the body, its initial value, and its value after the round."""

    name: str
    start: str
    following: str
    dtype: DTypeLike = np.float32


class Collected(NamedTuple):
    """A value that a loop collects in every round."""

    name: str
    dtype: DTypeLike = np.float32


@dataclass
class Graph:
    """A graph builder. The body of a loop shares `names` with the outer graph, whose values it may read."""

    nodes: list["onnx.NodeProto"] = field(default_factory=list)
    constants: dict[tuple[str, Axes, bytes], "onnx.TensorProto"] = field(default_factory=dict)  # by content
    names: Iterator[int] = field(default_factory=count)

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Value, **attributes: Any) -> list[str]:
        """Add a node and return its outputs' names."""
        from onnx import helper

        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = [f"{kind}_{next(self.names)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, **attributes))
        return made

    def constant(self, value: NDArray[Any] | Tensor) -> str:
        """Store an array in the file, once, and return its name."""
        from onnx import numpy_helper

        array = np.asarray(value.numpy() if isinstance(value, Tensor) else value, order="C")
        content = (str(array.dtype), array.shape, array.tobytes())
        if content not in self.constants:
            self.constants[content] = numpy_helper.from_array(array, f"constant_{next(self.names)}")
        return self.constants[content].name

    def filled(self, shape: str, value: float, dtype: DTypeLike = np.float32) -> str:
        """Add a constant array of a shape that is known only at run time."""
        from onnx import numpy_helper

        return self.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([value], dtype)))

    def body(self) -> "Graph":
        """Make an empty graph for the `body` of a `loop` of this one. In it `round` counts from 0."""
        return Graph(names=self.names)

    def loop(
        self, body: "Graph", rounds: int, more: str, carried: list[Carried], collected: list[Collected]
    ) -> list[str]:
        """Add a loop that runs `body` while the last round's bool `more` is true, up to a maximum number of rounds.

        Returns the names of the `collected` values, each with the rounds as a new first axis.
        """
        inputs = [_port("round", np.int64, ()), _port("more", np.bool_, ())]
        inputs += [_port(each.name, each.dtype) for each in carried]
        outputs = [_port(more, np.bool_, ()), *[_port(each.following, each.dtype) for each in carried]]
        outputs += [_port(each.name, each.dtype) for each in collected]
        made = self.ops(
            "Loop",
            len(carried) + len(collected),
            np.array(rounds),
            np.array(True),
            *[each.start for each in carried],
            body=body._proto("body", inputs, outputs),
        )
        return made[len(carried) :]

    def to_bytes(self, state: Axes, actions: str, chunk: Axes, metadata: dict[str, str]) -> bytes:
        """Return the content of an `.onnx` file with the input "state" and the node output `actions` as "actions"."""
        from onnx import checker, helper

        self.nodes.append(helper.make_node("Identity", [actions], ["actions"]))
        graph = self._proto("policy", [_port("state", np.float32, state)], [_port("actions", np.float32, chunk)])
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tinypi")
        helper.set_model_props(model, metadata)
        checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content

    def _proto(
        self, name: str, inputs: list["onnx.ValueInfoProto"], outputs: list["onnx.ValueInfoProto"]
    ) -> "onnx.GraphProto":
        from onnx import helper

        return helper.make_graph(self.nodes, name, inputs, outputs, list(self.constants.values()))


def _port(name: str, dtype: DTypeLike, axes: Axes | None = None) -> "onnx.ValueInfoProto":
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), axes)


def standardise(graph: Graph, values: str, mean: Floats, std: Floats) -> str:
    """Convert physical units to standard units, `(..., D)`."""
    return graph.op("Div", graph.op("Sub", values, mean), std)


def to_physical(graph: Graph, values: str, mean: Floats, std: Floats) -> str:
    """Convert standard units to physical units, `(..., D)`."""
    return graph.op("Add", graph.op("Mul", values, std), mean)


def linear(graph: Graph, x: str, layer: nn.Linear, bias: Value | None = None) -> str:
    """Map `x (R, inputs)` to `(R, outputs)`; a given `bias (R, outputs)` replaces the layer's."""
    return graph.op("Gemm", x, layer.weight.T, layer.bias if bias is None else bias)


def layer_norm(graph: Graph, x: str, norm: nn.LayerNorm) -> str:
    """Normalise `x (R, W)`."""
    return graph.op("LayerNormalization", x, norm.weight, norm.bias, axis=-1, epsilon=norm.eps)


def mlp_embedding(graph: Graph, x: str, layers: nn.Sequential) -> str:
    """Add `transformer.mlp_embedding`, `(B, inputs)` to `(B, W)`."""
    first, activation, last = layers
    assert isinstance(first, nn.Linear) and isinstance(activation, nn.SiLU) and isinstance(last, nn.Linear)
    hidden = linear(graph, x, first)
    return linear(graph, graph.op("Mul", hidden, graph.op("Sigmoid", hidden)), last)


def block(graph: Graph, x: str, layer: nn.Module, attend: Callable[[str], str]) -> str:
    """Add `transformer.Block` for `x (R, W)`; `attend` maps `(R, 3W)` to `(R, W)`."""
    assert isinstance(layer, Block)
    mixed = attend(linear(graph, layer_norm(graph, x, layer.attention_norm), layer.queries_keys_values))
    x = graph.op("Add", x, linear(graph, mixed, layer.attention_out))
    hidden = graph.op("Gelu", linear(graph, layer_norm(graph, x, layer.mlp_norm), layer.mlp_in))
    return graph.op("Add", x, linear(graph, hidden, layer.mlp_out))
