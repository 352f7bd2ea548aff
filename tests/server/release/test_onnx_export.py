"""The ONNX file computes what torch does, in two engines that share no code with it; one that does not is noticed."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from client.data.view_average import average_views
from server.release import onnx_extra
from server.release.assembly import input_contract
from server.release.onnx_export import clinical_entries, to_onnx
from server.release.onnx_extra import require_onnx
from server.release.onnx_trial import require_equal
from shared_model.config import compose
from shared_model.config.choices import FeatureEngine
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.network.backbone import frozen_features
from shared_model.network.fusion import build_network
from shared_model.network.openvino_encoder import load_quiet_openvino
from shared_model.network.scoring import predict
from shared_model.network.standardisation import FeatureConstants
from shared_model.network.state import load_feature_constants
from shared_model.vocabulary import clinical_width
from tests.small_networks import make_model, make_pattern, randomise

SIZE = 32
NETWORKS = [
    ("fusion", "early", 0, "own"),
    ("fusion", "early", 0, "all"),
    ("fusion", "early", 5, "own"),
    ("fusion", "mid", 0, "own"),
    ("fusion", "mid", 5, "all"),
    ("fusion", "late", 0, "all"),
    ("fusion", "late", 4, "own"),
    ("image", "early", 0, "all"),
    ("image", "early", 3, "own"),
    ("clinical", "early", 0, "own"),
    ("clinical", "early", 4, "all"),
]


def made(modality="fusion", fusion="early", hidden_width=0, views="own", *more):
    """Return a network as after some training, and its contract."""
    config = compose(
        [
            "preset=cbis_mass", "data.root=.", f"data.image.size={SIZE}", f"data.views={views}",
            "data.features=descriptors", f"model.modality={modality}", f"model.fusion={fusion}",
            f"model.hidden_width={hidden_width}", "model.feature_constants=public", "model.image_components=7", *more,
        ]
    )  # fmt: skip
    network = randomise(build_network(config.model, clinical_width(config.data.features), seed=0)).eval()
    if config.model.reads_frozen_features:
        generator = np.random.default_rng(2)
        constants = FeatureConstants(
            mean=generator.normal(size=320).astype(np.float32),
            projection=generator.normal(size=(320, 7)).astype(np.float32),
        )
        load_feature_constants(network, constants)
    return network, input_contract(config, None)


def written(network, contract):
    return to_onnx(network, contract, facts={"model_sha256": "0" * 64})


def views_of(contract):
    """Return pictures and clinical entries of five views; of one nothing is recorded."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand(3, 1, SIZE, SIZE, generator=generator)
    pixels = torch.cat([make_pattern(SIZE), make_pattern(SIZE).flip(2) ** 2, noise])
    clinical = torch.randint(-1, 2, (5, clinical_width(contract.features)), generator=generator).float()
    clinical[1] = 0
    return pixels, clinical


def expected(network, contract, pixels, clinical):
    """Return features and probabilities as a reader gets them."""
    count, modality = len(pixels), contract.model.modality
    features = frozen_features(pixels, contract.model.backbone, FeatureEngine.TORCH)
    lesions = Lesions(
        images=torch.zeros(count, 0) if modality == "clinical" else features,
        has_image=torch.full((count,), modality != "clinical"),
        clinical=clinical,
        labels=torch.zeros(count),
        patients=torch.zeros(count, dtype=torch.int64),
    )
    if contract.views == "all":
        lesions = average_views(lesions, lesions.patients).select(torch.tensor([0]))
    return lesions.images.numpy(), predict(network, lesions)


def by_reference(content, inputs):
    model = onnx.load_from_string(content)
    names = [output.name for output in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))


def by_openvino(content, inputs):
    core = load_quiet_openvino().Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(inputs)
    names = [output.name for output in onnx.load_from_string(content).graph.output]
    return {name: results[compiled.output(name)] for name in names}


@pytest.mark.parametrize("engine", [by_reference, by_openvino])
@pytest.mark.parametrize("structure", NETWORKS)
def test_results_are_those_of_torch(structure, engine):
    network, contract = made(*structure)
    pixels, clinical = views_of(contract)
    content = written(network, contract)
    given = {"images": pixels.numpy(), "clinical": clinical.numpy()}
    inputs = {node.name: given[node.name] for node in onnx.load_from_string(content).graph.input}
    assert set(inputs) == {"images", "clinical"} - {"image": {"clinical"}, "clinical": {"images"}}.get(
        structure[0], set()
    )
    found, (features, probabilities) = engine(content, inputs), expected(network, contract, pixels, clinical)
    assert probabilities.std() > 0.001 or contract.views == "all"
    assert found["probability"].dtype == np.float32
    np.testing.assert_allclose(found["probability"], probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-found["logit"].astype(float))), probabilities, rtol=0, atol=1e-5)
    if structure[0] != "clinical":
        difference = np.linalg.norm(found["features"] - features, axis=1) / np.linalg.norm(features, axis=1)
        assert difference.max() <= 1e-5


def test_one_row_and_many_rows_are_taken():
    network, contract = made()
    pixels, clinical = views_of(contract)
    content = written(network, contract)
    alone = by_openvino(content, {"images": pixels[:1].numpy(), "clinical": clinical[:1].numpy()})
    together = by_openvino(content, {"images": pixels.numpy(), "clinical": clinical.numpy()})
    np.testing.assert_allclose(alone["probability"], together["probability"][:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("structure", NETWORKS)
def test_the_trial_passes_what_was_made(structure):
    network, contract = made(*structure)
    count = 3
    public = Lesions(
        images=torch.randn(count, 0 if structure[0] == "clinical" else 320),
        has_image=torch.tensor([True, False, True]) & (structure[0] != "clinical"),
        clinical=torch.zeros(count, 0 if structure[0] == "image" else clinical_width(contract.features)),
        labels=torch.zeros(count),
        patients=torch.arange(count),
    )
    require_equal(written(network, contract), network, contract, public, seed=0)


def initializers(content, kind):
    """Return the model, and those of its constants that a node of ``kind`` reads."""
    model = onnx.load_from_string(content)
    names = {name for node in model.graph.node if node.op_type == kind for name in node.input}
    return model, [each for each in model.graph.initializer if each.name in names and len(each.dims) > 1]


@pytest.mark.parametrize(("kind", "position"), [("Conv", 0), ("Conv", 25), ("Conv", -1), ("MatMul", 0), ("MatMul", 1)])
def test_the_trial_notices_another_weight(kind, position):
    network, contract = made()
    model, constants = initializers(written(network, contract), kind)
    values = numpy_helper.to_array(constants[position]).copy()
    # Not all alike, since the length of the features is divided out.
    values.reshape(-1)[::2] *= 1.01
    constants[position].CopyFrom(numpy_helper.from_array(values, constants[position].name))
    with pytest.raises(ConfigError, match=r"ONNX file within 1e-05 of the network, got .*; release without --onnx"):
        require_equal(model.SerializeToString(), network, contract, None, seed=0)


def test_the_trial_notices_what_is_no_number():
    network, contract = made("image")
    model, constants = initializers(written(network, contract), "MatMul")
    values = np.full(tuple(constants[0].dims), np.nan, dtype=np.float32)
    constants[0].CopyFrom(numpy_helper.from_array(values, constants[0].name))
    with pytest.raises(ConfigError, match="got nan"):
        require_equal(model.SerializeToString(), network, contract, None, seed=0)


def test_public_lesions_take_part_in_the_trial():
    """A file that is right for what is random and wrong for what is public is not released."""
    network, contract = made("clinical")
    model = onnx.load_from_string(written(network, contract))
    for node in model.graph.node:
        node.input[:] = ["clipped" if name == "clinical" else name for name in node.input]
    bounds = [numpy_helper.from_array(np.float32(bound), name) for name, bound in (("low", -1), ("high", 1))]
    model.graph.initializer.extend(bounds)
    model.graph.node.insert(0, onnx.helper.make_node("Clip", ["clinical", "low", "high"], ["clipped"]))
    content = model.SerializeToString()
    require_equal(content, network, contract, None, seed=0)
    public = Lesions(
        images=torch.zeros(1, 0),
        has_image=torch.tensor([False]),
        clinical=torch.full((1, clinical_width(contract.features)), 1.5),
        labels=torch.zeros(1),
        patients=torch.zeros(1, dtype=torch.int64),
    )
    with pytest.raises(ConfigError, match="ONNX file within"):
        require_equal(content, network, contract, public, seed=0)


def test_the_file_is_the_same_each_time_and_says_what_it_takes():
    network, contract = made("fusion", "mid", 4, "all")
    content = written(network, contract)
    assert content == written(network, contract)
    model = onnx.load_from_string(content)
    images, clinical = model.graph.input
    assert [length.dim_param or length.dim_value for length in images.type.tensor_type.shape.dim] == [
        "views",
        1,
        32,
        32,
    ]
    assert "mode crop, 32 x 32 pixels" in images.doc_string
    assert [length.dim_param or length.dim_value for length in clinical.type.tensor_type.shape.dim] == ["views", 38]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["model_sha256"] == "0" * 64
    entries = json.loads(metadata["clinical_entries"])
    assert entries == clinical_entries(contract.features)
    assert (len(entries), entries[0], entries[-1]) == (38, "breast_density", "calc_distribution=SEGMENTAL")
    assert "no medical device" in model.graph.doc_string
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}


def test_nothing_of_the_machine_stands_in_the_file():
    network, contract = made()
    content = written(network, contract)
    for needle in (str(Path.cwd()), str(Path.home()), "site-packages", ".py"):
        assert needle.encode() not in content


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(onnx_extra, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Expected onnx for --onnx; install it with .*\[onnx\]"):
        require_onnx(make_model())


def test_a_network_with_an_encoder_of_its_own_is_refused():
    with pytest.raises(ConfigError, match=r"frozen backbone for --onnx, got model.backbone=small_cnn"):
        require_onnx(make_model(backbone="small_cnn"))
    require_onnx(make_model("clinical", backbone="small_cnn"))
