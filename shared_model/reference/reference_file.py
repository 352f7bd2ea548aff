"""Numbers of public lesions in one safetensors file: feature constants, heads trained on them, and what is usual.

A run with ``model.feature_constants=shipped`` standardises features by such numbers, so that none of its budget is
spent on a mean; with ``model.initial_head=shipped`` it begins with the head. A file is somebody else's until it is
checked: its size, names, shapes and values, the digest of its content, and that it is of the encoder, images and
columns of the configuration. The digest finds damage; it says nothing about who wrote the file.

Arrays, all float32, with ``D`` features and ``K`` components:

- ``mean (D,)`` and ``projection (D, K)``: ``FeatureConstants``.
- ``head.NAME (1, K + C + 1)``: the weights of a linear head without privacy, for each name in ``columns``.
- ``scale (D,)``: scaled features are ``z = (x - mean) * scale``; the components ``c = (x - mean) @ projection`` are an
  orthogonal projection of them.
- ``component_mean (K,)``, ``component_std (K,)``: of ``c`` over the lesions.
- ``residual_quantiles``: of ``sqrt(|z|^2 - |c|^2)`` over the lesions, at ``RESIDUAL_LEVELS``: how much of a lesion the
  components leave out. So a reader can say how unusual another lesion is.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import safetensors
import safetensors.numpy

from shared_model.config.bounds import Count
from shared_model.config.choices import Backbone, ImageMode, InitialHead, Modality, Views
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import ConfigError
from shared_model.network.efficientnet import FEATURE_WIDTH, VARIANTS
from shared_model.network.named_arrays import Float32Array, Parameters, is_finite, to_safetensors
from shared_model.network.standardisation import FeatureConstants
from shared_model.system.checked import DISTINCT, NOT_EMPTY, build, checked, require, rule, to_plain
from shared_model.system.documents import from_json
from shared_model.vocabulary import FeaturePolicy, LesionType, Split, clinical_columns, clinical_width

FORMAT_VERSION = 1
SHIPPED_FILE = Path(__file__).parent / "cbis_ddsm_masses_efficientnet_lite1.safetensors"
"""Comes with the package."""
IMAGE_HEAD = "image"
"""Name of the head that reads no clinical column; the others are named by ``FeaturePolicy``."""
RESIDUAL_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MAX_BYTES = 1_000_000
MAX_MAGNITUDE = 1e4
"""Of an entry: what the kits' policy takes from a server."""
_FACTS, _METADATA, _HEAD = "reference", "__metadata__", "head."
_LENGTH_BYTES = 8
"""With the length of its header a safetensors file begins."""
_MAX_LETTERS = 500
_FIXED = ("mean", "projection", "scale", "component_mean", "component_std", "residual_quantiles")
Text = Annotated[str, rule(lambda text: 0 < len(text) <= _MAX_LETTERS and text.isprintable(), "to be a printable line")]


@checked(key=_FACTS)
class ReferenceFacts:
    """What the numbers are of, where they come from, and what may be done with them."""

    format_version: int
    data_set: Text
    licence: Text
    citation: Text
    sites: tuple[Text, ...]
    """Hospitals whose patients they are of; empty for all of the data set."""
    split: Split
    patients: Annotated[tuple[Text, ...], NOT_EMPTY, DISTINCT]
    """Their identifiers in the data set, which is public."""
    num_lesions: Count
    """Views of lesions."""
    command: Text
    """That made the file, without paths."""
    backbone: Backbone
    weights_sha256: Text
    """Of the encoder."""
    lesion_types: Annotated[tuple[LesionType, ...], NOT_EMPTY, DISTINCT]
    views: Views
    image: ImageConfig
    columns: Mapping[str, tuple[Text, ...]]
    """Clinical columns of every head, by its name."""
    content_sha256: str
    """Of arrays and all other facts."""

    def __post_init__(self) -> None:
        require(self.format_version == FORMAT_VERSION, f"= {FORMAT_VERSION}", format_version=self.format_version)
        require(self.backbone in VARIANTS, "to be frozen", backbone=self.backbone)
        names = (IMAGE_HEAD, *FeaturePolicy)
        require(set(self.columns) <= set(names), f"to be named {', '.join(names)}", columns=sorted(self.columns))

    @property
    def origin(self) -> str:
        """Data set and, where not all, hospitals."""
        return self.data_set + (f" ({', '.join(self.sites)})" if self.sites else "")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A file that was checked, or what is about to be one."""

    facts: ReferenceFacts
    arrays: Parameters
    file_sha256: str

    @property
    def num_components(self) -> int:
        """``K``."""
        return int(self.arrays["projection"].shape[1])

    @property
    def constants(self) -> FeatureConstants:
        """Of the image branch."""
        return FeatureConstants(mean=self.arrays["mean"], projection=self.arrays["projection"])

    def head(self, config: ExperimentConfig) -> Float32Array:
        """Return the weights ``(1, K + C + 1)`` of the head for the columns of ``config``; see ``require_fits``."""
        return self.arrays[_HEAD + head_name(config)]

    def require_fits(self, config: ExperimentConfig) -> None:
        """Check that the numbers are of what the network of ``config`` reads.

        Of crops and regions cut from films the margins are not compared: nothing in a crop says how it was cut.

        Raises:
            ConfigError: naming the first key that differs.
        """
        facts, model, data = self.facts, config.model, config.data
        image, own = data.image, facts.image
        for key, value, of_file in (
            ("model.backbone", model.backbone, facts.backbone),
            ("model.image_components", model.image_components, self.num_components),
            ("data.views", data.views, facts.views),
            *(
                (f"data.image.{name}", getattr(image, name), getattr(own, name))
                for name in ("size", "normalisation", "denoising", "clahe_clip_limit", "face_left")
            ),
        ):
            if value != of_file:
                raise _misfit(key, value, f"== {of_file}")
        if (image.mode is ImageMode.FILM) != (own.mode is ImageMode.FILM):
            raise _misfit("data.image.mode", image.mode, f"== {own.mode}")
        if not set(data.lesion_types) <= set(facts.lesion_types):
            raise _misfit("data.lesion_types", ", ".join(data.lesion_types), f"among {', '.join(facts.lesion_types)}")
        if facts.weights_sha256 != VARIANTS[facts.backbone].weights_sha256:
            raise _misfit(f"weights of {facts.backbone}", "those installed here", f"== {facts.weights_sha256[:12]}")
        if model.initial_head is InitialHead.SHIPPED:
            self._require_head(config)

    def _require_head(self, config: ExperimentConfig) -> None:
        name = head_name(config)
        columns = self.facts.columns.get(name)
        if columns is None:
            raise _misfit("model.initial_head", "shipped", f"== zero: there is no head for columns {name!r}")
        if columns != column_names(name):
            raise _misfit(f"columns of the head {name!r}", "those of this code", f"== {', '.join(columns)}")


def head_name(config: ExperimentConfig) -> str:
    """Return the name of the head that reads what ``config`` says."""
    return IMAGE_HEAD if config.model.modality is Modality.IMAGE else str(config.data.features)


def column_names(head: str) -> tuple[str, ...]:
    """Return the clinical columns that the head of this name reads."""
    return () if head == IMAGE_HEAD else tuple(column.name for column in clinical_columns(FeaturePolicy(head)))


def head_array(name: str) -> str:
    """Return the name of the array of a head."""
    return _HEAD + name


def to_bytes(facts: ReferenceFacts, arrays: Parameters) -> bytes:
    """Return the content of a file; the same facts and arrays give the same bytes.

    Args:
        facts: with any digest, which is computed here.
        arrays: as the module says.

    Raises:
        ValueError: an array is missing, unknown, of another shape or not finite.
    """
    _check_arrays(facts, arrays)
    facts = dataclasses.replace(facts, content_sha256=_content_digest(facts, arrays))
    return to_safetensors(arrays, {_FACTS: json.dumps(to_plain(facts), sort_keys=True)})


def read_reference(path: Path) -> Reference:
    """Read and check a file.

    Raises:
        ConfigError: it cannot be read, or is anything else than what ``to_bytes`` returned; in one line.
    """
    try:
        content = _read_bounded(path)
        facts, arrays = _parse(content)
    except (ConfigError, KeyError, OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:_MAX_LETTERS].rstrip(".")
        raise ConfigError(
            f"Expected numbers of public lesions in {path}: {reason}; make it with fedmammo reference constants."
        ) from error
    return Reference(facts=facts, arrays=arrays, file_sha256=hashlib.sha256(content).hexdigest())


def _read_bounded(path: Path) -> bytes:
    """Return the content of a file, of which no more is read than any of ours has.

    Raises:
        ValueError: it is no file, or larger.
    """
    if not path.is_file():
        raise ValueError("there is no such file")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes")
    return content


def _parse(content: bytes) -> tuple[ReferenceFacts, Parameters]:
    """Return facts and arrays, checked.

    Raises:
        ConfigError, KeyError, TypeError, ValueError, safetensors.SafetensorError: they are none.
    """
    facts = build(ReferenceFacts, _facts(content), path=_FACTS)
    arrays = safetensors.numpy.load(content)
    _check_arrays(facts, arrays)
    if facts.content_sha256 != _content_digest(facts, arrays):
        raise ValueError("its content is not that of its digest: it was changed or damaged")
    return facts, arrays


def _facts(content: bytes) -> object:
    """Return the plain values of the facts in the header of a file.

    Raises:
        TypeError, ValueError: there are none.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = from_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    metadata = header.get(_METADATA) if isinstance(header, dict) else None
    text = metadata.get(_FACTS) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise TypeError("its header lacks what the numbers are of")
    return from_json(text)


def _check_arrays(facts: ReferenceFacts, arrays: Parameters) -> None:
    """Check names, types, shapes and values.

    Raises:
        ValueError: one of them is wrong.
    """
    names = sorted([*_FIXED, *(_HEAD + name for name in facts.columns)])
    if sorted(arrays) != names:
        raise ValueError(f"expected the arrays {', '.join(names)}")
    projection = arrays["projection"]
    num_components = projection.shape[1] if projection.ndim == 2 else 0
    if not 1 <= num_components <= FEATURE_WIDTH:
        raise ValueError(f"expected projection of shape ({FEATURE_WIDTH}, K) with K in [1, {FEATURE_WIDTH}]")
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (FEATURE_WIDTH,),
        "projection": (FEATURE_WIDTH, num_components),
        "scale": (FEATURE_WIDTH,),
        "component_mean": (num_components,),
        "component_std": (num_components,),
        "residual_quantiles": (len(RESIDUAL_LEVELS),),
        **{_HEAD + name: (1, num_components + _clinical_width(name) + 1) for name in facts.columns},
    }
    for name, shape in shapes.items():
        array = arrays[name]
        if array.dtype != "float32" or array.shape != shape:
            raise ValueError(f"expected {name} of float32 and shape {shape}, got {array.dtype} and {array.shape}")
    if not is_finite(arrays) or any(float(abs(array).max()) > MAX_MAGNITUDE for array in arrays.values()):
        raise ValueError(f"expected finite values within {MAX_MAGNITUDE:g}")
    quantiles = arrays["residual_quantiles"]
    if (arrays["scale"] <= 0).any() or (arrays["component_std"] < 0).any() or (quantiles < 0).any():
        raise ValueError("expected scale > 0, and deviations and quantiles >= 0")
    if (quantiles[1:] < quantiles[:-1]).any():
        raise ValueError("expected quantiles in ascending order")


def _clinical_width(head: str) -> int:
    return 0 if head == IMAGE_HEAD else clinical_width(FeaturePolicy(head))


def _content_digest(facts: ReferenceFacts, arrays: Parameters) -> str:
    plain = to_plain(dataclasses.replace(facts, content_sha256=""))
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.shape}\0".encode() + array.astype("<f4").tobytes())
    return digest.hexdigest()


def _misfit(key: str, value: object, expectation: str) -> ConfigError:
    return ConfigError(
        f"Expected {key}={value} {expectation}, as in the file of model.feature_constants=shipped; change it or name "
        "another file by model.constants_file."
    )
