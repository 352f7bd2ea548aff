"""The whole network of a release as one ONNX file, from the pixels to the probability, for other programs.

No reader here opens it: it checks the file's digest as that of every other, and reads with ``model.safetensors``.
"""

import json
from collections.abc import Mapping

from server.release.onnx_head import add_logits
from shared_model.config.choices import Modality, Views
from shared_model.config.site_sections import ImageConfig
from shared_model.network.efficientnet import FEATURE_WIDTH, load_efficientnet_lite
from shared_model.network.fusion import FusionNet
from shared_model.network.onnx_graph import GraphBuilder, add_encoder, described, to_bytes
from shared_model.release.document import InputContract
from shared_model.vocabulary import Encoding, FeaturePolicy, clinical_columns, clinical_width

IMAGES, CLINICAL = "images", "clinical"
FEATURES, LOGIT, PROBABILITY = "features", "logit", "probability"
_NOTICE = "Research software and no medical device: no decision about a patient may rest on what this network says."


def to_onnx(network: FusionNet, contract: InputContract, *, facts: Mapping[str, str]) -> bytes:
    """Return the file; it is the same for the same network.

    Inputs, float32, as ``contract`` says: ``images (N, 1, S, S)`` in [0, 1] and ``clinical (N, C)`` in [-1, 1], one row
    a lesion; with ``data.views=all`` rows are the views of one lesion, of which there is one result. A network of one
    modality has one input. Results, float32: ``probability (N,)`` of malignancy, ``logit (N,)``, and with a frozen
    encoder ``features (N, 320)``, averaged over eight rotations and flips.

    Args:
        network: with a frozen encoder, or none that reads images.
        contract: of the release.
        facts: further entries of the file's metadata.
    """
    graph, modality, is_mean = GraphBuilder(), contract.model.modality, contract.views is Views.ALL
    rows, lesions = ("views", 1) if is_mean else ("lesions", "lesions")
    inputs, outputs = [], []
    features = clinical = None
    if modality is not Modality.CLINICAL:
        size = contract.image.size
        inputs.append(described(IMAGES, (rows, 1, size, size), _image_text(contract.image)))
        features = _add_features(graph, contract)
        outputs.append(
            described(
                FEATURES, (lesions, FEATURE_WIDTH), "Of the frozen encoder, the mean over eight rotations and flips."
            )
        )
    if modality is not Modality.IMAGE:
        inputs.append(described(CLINICAL, (rows, clinical_width(contract.features)), _CLINICAL_TEXT))
        clinical = _add_mean_of_recorded(graph, CLINICAL) if is_mean else CLINICAL
    logit = graph.named(add_logits(graph, network, features=features, clinical=clinical), LOGIT)
    graph.named(graph.node("Sigmoid", logit), PROBABILITY)
    outputs = [
        described(PROBABILITY, (lesions,), "Of malignancy, among lesions like those of the training; calibrated."),
        described(LOGIT, (lesions,), "Its logit."),
        *outputs,
    ]
    entries = json.dumps([] if clinical is None else clinical_entries(contract.features))
    metadata = {"notice": _NOTICE, "clinical_entries": entries, **facts}
    return to_bytes(graph.model(inputs, outputs, name="fedmammo", text=_NOTICE, metadata=metadata))


_CLINICAL_TEXT = (
    "float32; entries as clinical_entries of the metadata names them. Ordinal ones in equal steps from -1 to 1 in the "
    "order of release.json's columns, 0 where nothing was recorded; those with = are 0 or 1."
)


def clinical_entries(features: FeaturePolicy) -> list[str]:
    """Return the names of the encoded vector's entries: a column, or ``column=value`` where each value has its own."""
    return [
        entry
        for column in clinical_columns(features)
        for entry in (
            [column.name]
            if column.encoding is Encoding.ORDINAL
            else [f"{column.name}={value}" for value in column.values]
        )
    ]


def _image_text(image: ImageConfig) -> str:
    side = "mirrored so that the chest wall is at the left" if image.face_left else "not mirrored"
    return (
        f"float32 in [0, 1], bright tissue on dark; mode {image.mode}, {image.size} x {image.size} pixels, "
        f"normalisation {image.normalisation}, {side}; all of it as contract.image of release.json says."
    )


def _add_features(graph: GraphBuilder, contract: InputContract) -> str:
    encoder = load_efficientnet_lite(contract.model.backbone)
    orbit = _add_dihedral_orbit(graph, IMAGES)
    of_views = add_encoder(graph, encoder, orbit, size=contract.image.size)
    # One image's eight views stand N rows apart.
    apart = graph.node("Reshape", of_views, graph.integers([8, -1, FEATURE_WIDTH]))
    features = graph.node("ReduceMean", apart, axes=[0], keepdims=0)
    if contract.views is Views.ALL:
        features = graph.node("ReduceMean", features, axes=[0], keepdims=1)
    return graph.named(features, FEATURES)


def _add_dihedral_orbit(graph: GraphBuilder, images: str) -> str:
    """Turn ``(N, 1, S, S)`` into ``(8 N, 1, S, S)``: the eight rotations and flips, in an order of their own."""
    views = []
    for each in (images, graph.node("Transpose", images, perm=[0, 1, 3, 2])):
        mirrored = _add_flip(graph, each, axis=3)
        views += [each, mirrored, _add_flip(graph, each, axis=2), _add_flip(graph, mirrored, axis=2)]
    return graph.node("Concat", *views, axis=0)


def _add_flip(graph: GraphBuilder, value: str, *, axis: int) -> str:
    # From the last row backwards to before the first, whose number has to be less than minus the length.
    bounds = ([-1], [-(2**31)], [axis], [-1])
    return graph.node("Slice", value, *(graph.integers(bound) for bound in bounds))


def _add_mean_of_recorded(graph: GraphBuilder, clinical: str) -> str:
    """Turn ``(V, C)`` into ``(1, C)``: the mean over the views of which something was recorded, as ``view_average``."""
    recorded = graph.node("ReduceMax", graph.node("Abs", clinical), axes=[1], keepdims=1)
    recorded = graph.node("Greater", recorded, graph.constant(0.0))
    ones = graph.node("Where", recorded, graph.constant(1.0), graph.constant(0.0))
    count = graph.node("Max", graph.node("ReduceSum", ones, graph.integers([0]), keepdims=1), graph.constant(1.0))
    return graph.node("Div", graph.node("ReduceSum", clinical, graph.integers([0]), keepdims=1), count)
