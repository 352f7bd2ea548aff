"""ONNX graphs of the networks here, node by node: of the frozen encoder, and of what a release adds to it.

Written by hand, since the networks are plain chains: the same bytes each time, no path of a machine in them, and
nothing to install but ``onnx``. It is an extra, so whoever imports this module looks first whether it is there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from shared_model.network.efficientnet import (
    FEATURE_WIDTH,
    PIXEL_MEAN,
    PIXEL_STD,
    EfficientNetLite,
    InvertedBottleneck,
    SameConv2d,
    same_padding,
)

OPSET, IR_VERSION = 17, 8
"""Of 2022 (ONNX 1.12): old enough for any runtime of today."""


class GraphBuilder:
    """Nodes and constants of a graph under way; a value is known by the name that ``node`` or ``constant`` returned."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: int | list[int]) -> str:
        """Add a node of one output, whose name is returned."""
        name = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, list(inputs), [name], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return name

    def split(self, value: str, num_parts: int) -> list[str]:
        """Cut ``value`` into equal parts along its last axis."""
        names = [f"Split_{len(self._nodes)}_{part}" for part in range(num_parts)]
        self._nodes.append(helper.make_node("Split", [value], names, names[0], axis=-1))
        return names

    def named(self, value: str, name: str) -> str:
        """Give ``value`` another name, by which a graph's outputs are known."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name))
        return name

    def constant(self, values: ArrayLike) -> str:
        """Add a constant of float32."""
        return self._constant(np.array(values, dtype=np.float32, order="C"))

    def integers(self, values: Sequence[int]) -> str:
        """Add a constant of int64: a shape, axes or bounds."""
        return self._constant(np.array(values, dtype=np.int64))

    def _constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        *,
        name: str,
        text: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """Return the checked model.

        Raises:
            onnx.checker.ValidationError: a node has wrong inputs or shapes do not fit.
        """
        graph = helper.make_graph(self._nodes, name, inputs, outputs, initializer=self._constants, doc_string=text)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fedmammo"
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        return model


def described(name: str, shape: tuple[int | str, ...], text: str = "") -> onnx.ValueInfoProto:
    """Return the description of a float32 input or output; a text in ``shape`` names a length that is free."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, doc_string=text)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Return the file of ``model``; equal models have equal files."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def encoder_model(network: EfficientNetLite, *, num_images: int, size: int) -> bytes:
    """Return the model from ``pixels (num_images, 1, size, size)`` to ``features (num_images, 320)``."""
    graph = GraphBuilder()
    features = graph.named(add_encoder(graph, network, "pixels", size=size), "features")
    inputs, outputs = described("pixels", (num_images, 1, size, size)), described(features, (num_images, FEATURE_WIDTH))
    return to_bytes(graph.model([inputs], [outputs], name="EfficientNet-Lite"))


def add_encoder(graph: GraphBuilder, network: EfficientNetLite, pixels: str, *, size: int) -> str:
    """Add the frozen encoder; ``pixels (N, 1, size, size)`` in [0, 1] become features ``(N, 320)``."""
    maps = graph.node("Sub", pixels, graph.constant(PIXEL_MEAN))
    maps = graph.node("Div", maps, graph.constant(PIXEL_STD))
    maps, size = _add_convolution(graph, network.stem, maps, size)
    for block in (module for module in network.modules() if isinstance(module, InvertedBottleneck)):
        projected = maps
        for layer in (module for module in block.modules() if isinstance(module, SameConv2d)):
            projected, size = _add_convolution(graph, layer, projected, size)
        maps = graph.node("Add", maps, projected) if block.has_shortcut else projected
    return graph.node("ReduceMean", maps, axes=[2, 3], keepdims=0)


def _add_convolution(graph: GraphBuilder, layer: SameConv2d, maps: str, size: int) -> tuple[str, int]:
    """Add a layer on maps of ``size`` x ``size``; return what it makes, and its size."""
    before, after = same_padding(size, kernel_size=layer.kernel_size, stride=layer.stride)
    maps = graph.node(
        "Conv",
        maps,
        graph.constant(layer.weight.numpy()),
        graph.constant(layer.bias.numpy()),
        group=layer.groups,
        kernel_shape=[layer.kernel_size] * 2,
        pads=[before, before, after, after],
        strides=[layer.stride] * 2,
    )
    if layer.has_relu6:
        maps = graph.node("Clip", maps, graph.constant(0.0), graph.constant(6.0))
    return maps, -(-size // layer.stride)
