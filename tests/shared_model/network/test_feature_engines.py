"""Another engine gives the same features up to rounding, the same bytes each time, and tells nobody that it runs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.errors import ConfigError
from shared_model.network import feature_engines, openvino_encoder
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import EfficientNetLite
from shared_model.network.feature_engines import frozen_encoder, prepare_engine
from tests.small_networks import make_model, make_pattern

FROZEN = [Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1]
LITE0, OPENVINO = Backbone.EFFICIENTNET_LITE0, FeatureEngine.OPENVINO


@pytest.fixture
def untried():
    """Forget which engines were tried, before and after."""
    feature_engines._openvino_encoder.cache_clear()
    yield
    feature_engines._openvino_encoder.cache_clear()


def images():
    """Noise, flat ones, and a pattern; an odd side has padding that is not the same on both ends."""
    generator = torch.Generator().manual_seed(3)
    for size in (32, 61):
        flat = [torch.full((1, 1, size, size), grey) for grey in (0.0, 1.0)]
        yield torch.cat([make_pattern(size), torch.rand(1, 1, size, size, generator=generator), *flat])


@pytest.mark.parametrize("backbone", FROZEN)
def test_features_differ_by_rounding_alone(backbone):
    for pixels in images():
        expected = frozen_features(pixels, backbone, FeatureEngine.TORCH)
        found = frozen_features(pixels, backbone, OPENVINO)
        assert found.dtype == torch.float32
        difference = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert difference.max() <= 1e-5
        # An engine that falls back on torch would be useless, and this test would not see it.
        assert not torch.equal(found, expected)


def test_repeated_or_in_several_threads_the_bytes_are_the_same():
    pixels = torch.rand(12, 1, 64, 64, generator=torch.Generator().manual_seed(4))
    first = frozen_features(pixels, LITE0, OPENVINO)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda row: frozen_features(pixels[row : row + 1], LITE0, OPENVINO), range(12)))
    assert torch.equal(torch.cat(rows), first)


def test_another_process_gives_the_same_bytes():
    script = (
        "import hashlib, torch\n"
        "from shared_model.config.choices import Backbone, FeatureEngine\n"
        "from shared_model.network.backbone import frozen_features\n"
        "pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(4))\n"
        "features = frozen_features(pixels, Backbone.EFFICIENTNET_LITE0, FeatureEngine.OPENVINO)\n"
        "print(hashlib.sha256(features.numpy().tobytes()).hexdigest())\n"
    )
    assert output_of(script, OMP_NUM_THREADS="1") == output_of(script, OMP_NUM_THREADS="2")


def output_of(script, **environment):
    done = subprocess.run(  # noqa: S603, our own script
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_loaded_that_sends_and_no_socket_is_opened(tmp_path):
    """Python's audit hook sees what its code does, among it all of the package that sends."""
    script = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event.startswith('socket.') or event == 'os.mkdir':\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "sys.addaudithook(hook)\n"
        "from shared_model.config.choices import Backbone, FeatureEngine\n"
        "from shared_model.network.feature_engines import frozen_encoder\n"
        "frozen_encoder(Backbone.EFFICIENTNET_LITE0, FeatureEngine.OPENVINO, 32)\n"
        "loaded = [name for name, module in sys.modules.items() if module is not None]\n"
        "assert 'openvino' in loaded\n"
        "print([name for name in loaded if 'telemetry' in name or name.startswith('openvino.tools')])\n"
    )
    assert output_of(script, HOME=str(tmp_path)) == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_the_same_package_sends_where_it_is_imported_as_it_comes(tmp_path):
    """Else the test above would look for something that is not there any more."""
    script = (
        "import openvino_telemetry\n"
        "events = []\n"
        "openvino_telemetry.Telemetry.send_event = lambda self, *event, **more: events.append(event)\n"
        "import openvino\n"
        "print(events)\n"
    )
    assert "general_import" in output_of(script, HOME=str(tmp_path))


def test_what_was_imported_before_is_noticed(tmp_path):
    script = (
        "import openvino_telemetry\n"
        "openvino_telemetry.Telemetry.send_event = lambda self, *event, **more: None\n"
        "import openvino\n"
        "from shared_model.errors import ConfigError\n"
        "from shared_model.network.openvino_encoder import load_quiet_openvino\n"
        "try:\n"
        "    load_quiet_openvino()\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    assert output_of(script, HOME=str(tmp_path)).startswith("Expected no module openvino_telemetry")


def test_an_engine_that_computes_something_else_is_not_used(untried, monkeypatch):
    def compiled(model):
        return lambda views: torch.zeros(len(views), 320).numpy()

    monkeypatch.setattr(openvino_encoder, "compiled", compiled)
    with pytest.raises(ConfigError, match=r"feature_engine=openvino within 1e-05 of torch's .* got 1; take .*=torch"):
        frozen_encoder(LITE0, OPENVINO, 32)


def test_not_a_number_is_not_used_either(untried, monkeypatch):
    monkeypatch.setattr(
        openvino_encoder, "compiled", lambda model: lambda views: torch.full((8, 320), torch.nan).numpy()
    )
    with pytest.raises(ConfigError, match="got nan"):
        frozen_encoder(LITE0, OPENVINO, 32)


def test_half_precision_would_not_pass(untried, monkeypatch):
    real = EfficientNetLite.forward
    monkeypatch.setattr(EfficientNetLite, "forward", lambda self, pixels: real(self, pixels).bfloat16().float())
    with pytest.raises(ConfigError, match="within 1e-05"):
        frozen_encoder(LITE0, OPENVINO, 32)


@pytest.mark.parametrize("missing", [("openvino",), ("onnx",), ("onnx", "openvino")])
def test_without_the_extra_one_line_says_what_to_install(untried, monkeypatch, missing):
    monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(ConfigError, match=rf"Expected {' and '.join(missing)} for .*\[openvino\]"):
        prepare_engine(make_model(engine="openvino"), 32)


def test_nothing_is_loaded_for_a_network_without_frozen_features(monkeypatch):
    monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None)
    for model in (make_model("clinical", engine="openvino"), make_model(backbone="small_cnn", engine="openvino")):
        prepare_engine(model, 32)
        assert model.engine_packages == ()
    assert make_model(engine="openvino").engine_packages == ("openvino",)


def test_few_sizes_stay_in_memory(untried):
    for size in (32, 33, 34):
        frozen_encoder(LITE0, OPENVINO, size)
    assert feature_engines._openvino_encoder.cache_info().currsize == 2


def test_ctrl_c_still_interrupts_after_networks_were_dropped():
    """OpenVINO takes back the stack of signals with its core: one core after the other left a stack that was freed."""
    code = (
        "import os, signal\n"
        "from shared_model.config.choices import Backbone, FeatureEngine\n"
        "from shared_model.network import feature_engines\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "for size in (32, 33, 34, 35, 36):\n"
        "    feature_engines.frozen_encoder(Backbone.EFFICIENTNET_LITE0, FeatureEngine.OPENVINO, size)\n"
        "feature_engines._openvino_encoder.cache_clear()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, "interrupted\n")
