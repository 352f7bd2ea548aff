"""What follows the frozen encoder, as ONNX nodes: standardisation, branches, head; ``shared_model.network.heads``.

A lesion without an image is no input here, as it is none of a reader: the image is always present.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from shared_model.network.fusion import CLINICAL_SCALE, FusionNet
from shared_model.network.heads import BIAS_INPUT, EarlyHead, LateHead, LogitLayer, MidHead, RowwiseLinear, SingleHead
from shared_model.network.onnx_graph import GraphBuilder
from shared_model.network.standardisation import MIN_LENGTH, Standardisation


def add_logits(graph: GraphBuilder, network: FusionNet, *, features: str | None, clinical: str | None) -> str:
    """Add all that ``network`` makes of features ``(N, 320)`` and clinical entries ``(N, C)``; return logits ``(N,)``.

    Args:
        graph: to which the nodes are added.
        network: with a frozen encoder, or none.
        features: name of the value; None for a network that reads none.
        clinical: the same.

    Raises:
        ValueError: the network has an encoder of its own, or a value is missing.
    """
    head, has_clinical, scaled = network.head, None, None
    vectors = None if features is None else _add_unit_features(graph, network.image_standardisation, features)
    if clinical is not None:
        has_clinical = graph.node("ReduceMax", graph.node("Abs", clinical), axes=[1], keepdims=1)
        has_clinical = graph.node("Greater", has_clinical, graph.constant(0.0))
        scaled = graph.node("Mul", clinical, graph.constant(CLINICAL_SCALE))
    match head, vectors, scaled, has_clinical:
        case SingleHead(), str(), None, None:
            logits = _add_single(graph, head, vectors, None)
        case SingleHead(), None, str(), str():
            logits = _add_single(graph, head, scaled, has_clinical)
        case EarlyHead(), str(), str(), str():
            logits = _add_early(graph, head, vectors, scaled, has_clinical)
        case MidHead(), str(), str(), str():
            logits = _add_mid(graph, head, vectors, scaled, has_clinical)
        case LateHead(), str(), str(), str():
            logits = _add_late(graph, head, vectors, scaled, has_clinical)
        case _:
            raise ValueError("Expected features and clinical entries as the network's head reads them.")
    return graph.node("Squeeze", logits, graph.integers([1]))


def _add_unit_features(graph: GraphBuilder, standardisation: Standardisation | None, features: str) -> str:
    if standardisation is None:
        raise ValueError("Expected a network with frozen features.")
    mean, projection = standardisation.constants()
    centred = graph.node("Sub", features, graph.constant(_array(mean)))
    vectors = graph.node("MatMul", centred, graph.constant(_array(projection)))
    lengths = graph.node("ReduceL2", vectors, axes=[1], keepdims=1)
    return graph.node("Div", vectors, graph.node("Max", lengths, graph.constant(MIN_LENGTH)))


def _add_single(graph: GraphBuilder, head: SingleHead, vectors: str, is_present: str | None) -> str:
    return _add_logit(graph, head.output, _keep(graph, _add_embedding(graph, head.embedding, vectors), is_present))


def _add_early(graph: GraphBuilder, head: EarlyHead, image: str, clinical: str, has_clinical: str) -> str:
    joint = graph.node("Concat", image, _keep(graph, clinical, has_clinical), axis=1)
    return _add_logit(graph, head.output, _add_embedding(graph, head.embedding, joint))


def _add_mid(graph: GraphBuilder, head: MidHead, image: str, clinical: str, has_clinical: str) -> str:
    clinical = _keep(graph, _add_embedding(graph, head.clinical_embedding, clinical), has_clinical)
    scale, shift = graph.split(_add_linear(graph, head.modulation, clinical), 2)
    image = graph.node(
        "Mul", _add_embedding(graph, head.image_embedding, image), graph.node("Add", scale, graph.constant(1.0))
    )
    return _add_logit(graph, head.output, graph.node("Concat", graph.node("Add", image, shift), clinical, axis=1))


def _add_late(graph: GraphBuilder, head: LateHead, image: str, clinical: str, has_clinical: str) -> str:
    """Add the mean of two logits; without clinical entries that of the image counts alone."""
    of_image, of_clinical = head.decision.weight.detach()[:, 0].softmax(dim=0).tolist()
    logits = graph.node(
        "Concat",
        _add_single(graph, head.image, image, None),
        _add_single(graph, head.clinical, clinical, has_clinical),
        axis=1,
    )
    weights = graph.node(
        "Where", has_clinical, graph.constant([[of_image, of_clinical]]), graph.constant([[of_image, 0.0]])
    )
    total = graph.node("ReduceSum", weights, graph.integers([1]), keepdims=1)
    weighted = graph.node("Mul", graph.node("Div", weights, total), logits)
    return graph.node("ReduceSum", weighted, graph.integers([1]), keepdims=1)


def _keep(graph: GraphBuilder, vectors: str, is_present: str | None) -> str:
    return vectors if is_present is None else graph.node("Where", is_present, vectors, graph.constant(0.0))


def _add_embedding(graph: GraphBuilder, embedding: nn.Module, vectors: str) -> str:
    match list(embedding.children()):
        case []:
            return vectors
        case [RowwiseLinear() as layer, nn.Tanh()]:
            return graph.node("Tanh", _add_linear(graph, layer, vectors))
        case layers:
            raise ValueError(f"Expected a linear layer and tanh, got {layers}.")


def _add_linear(graph: GraphBuilder, layer: RowwiseLinear, vectors: str) -> str:
    products = graph.node("MatMul", vectors, graph.constant(_array(layer.weight.mT)))
    return products if layer.bias is None else graph.node("Add", products, graph.constant(_array(layer.bias)))


def _add_logit(graph: GraphBuilder, layer: LogitLayer, vectors: str) -> str:
    """Add the layer; its last weight is the bias, times ``BIAS_INPUT``. Returns ``(N, 1)``."""
    weight = layer.linear.weight.mT
    products = graph.node("MatMul", vectors, graph.constant(_array(weight[:-1])))
    return graph.node("Add", products, graph.constant(_array(weight[-1] * BIAS_INPUT)))


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.array(values.detach().cpu().numpy(), dtype=np.float32)
