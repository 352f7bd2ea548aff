"""The frozen encoder computed by OpenVINO; no other module imports it, since importing it as it comes tells its maker.

``import openvino`` of 2026.4 loads the tools that convert models, which write an identifier of the machine into the
home folder and send an event to Google Analytics (openvino/tools/ovc/__init__.py). Nothing of them is needed to run a
model. So they, and the package that sends, are marked as missing first, which ``openvino/__init__.py`` provides for;
where either is loaded all the same, nothing is computed.
"""

import functools
import importlib
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_model.errors import ConfigError

_TALKATIVE = ("openvino_telemetry", "openvino.tools.ovc")
_PACKAGES = ("onnx", "openvino")
Features = NDArray[np.float32]


def require_openvino() -> None:
    """Check that the extra is installed.

    Raises:
        ConfigError: it is not.
    """
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise ConfigError(
            f"Expected {' and '.join(missing)} for model.feature_engine=openvino; install them with pip install "
            "'federated-mammography[openvino]', or take model.feature_engine=torch."
        )


def compiled(model: bytes) -> Callable[[Features], Features]:
    """Return the function that an ONNX model of one input and one output is, in float32.

    It may be called by several threads, each of which keeps one core busy; how many there are changes no bit of a
    result.

    Raises:
        ConfigError: OpenVINO was loaded by other code together with what sends messages.
    """
    core = _core()
    num_cores = len(os.sched_getaffinity(0))
    settings = {
        # Else processors that have it compute with bfloat16, which moves features by a fifth.
        "INFERENCE_PRECISION_HINT": "f32",
        # One thread for each stream: then no sum is split in parts whose number depends on the machine.
        "NUM_STREAMS": num_cores,
        "INFERENCE_NUM_THREADS": num_cores,
        "ENABLE_CPU_PINNING": False,
    }
    loaded = core.compile_model(core.read_model(model), "CPU", settings)

    def compute(inputs: Features) -> Features:
        # A request serves one thread at a time.
        results = loaded.create_infer_request().infer([np.ascontiguousarray(inputs)])
        return np.array(results[0], dtype=np.float32)

    return compute


@functools.cache
def _core() -> Any:  # noqa: ANN401, its types are not known here
    """Return the one core of this process, for ever.

    A core of OpenVINO gives its thread another stack for signal handlers, and puts the one before back when it goes. Of
    several that do not go in order the last puts a freed one back, and the next Ctrl-C is a crash.
    """
    return load_quiet_openvino().Core()


def load_quiet_openvino() -> ModuleType:
    """Return the package ``openvino`` without anything that sends messages.

    Raises:
        ConfigError: other code of this process has loaded that already.
    """
    for name in _TALKATIVE:
        # None marks a module as missing (The import system, 5.3.1): whoever imports it gets an ImportError.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    openvino = importlib.import_module("openvino")
    if loaded := [name for name in sys.modules if name.startswith(_TALKATIVE) and sys.modules[name] is not None]:
        raise ConfigError(
            f"Expected no module {loaded[0]} in this process, which tells the maker of OpenVINO that it is used; other "
            "code imported openvino first, so take model.feature_engine=torch."
        )
    return openvino
