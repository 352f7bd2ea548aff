"""A release folder, opened: every byte of it is a stranger's until digest, signature and bounds have been checked."""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load

from client.data.grey_levels import GreyLevels
from client.deployment.site_file import SiteFile
from client.reading.result import ReleaseRead
from shared_model.errors import ReleaseError
from shared_model.network.efficientnet import FEATURE_WIDTH, VARIANTS
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.named_arrays import Float32Array, is_finite
from shared_model.network.state import load_constants, load_trainable, trainable_state
from shared_model.release.document import (
    CERTIFICATE_FILE,
    DOCUMENT_FILE,
    FORMAT_VERSION,
    MODEL_CARD_FILE,
    MODEL_FILE,
    ONNX_FILE,
    REFERENCE_FILE,
    SIGNATURE_FILE,
    Release,
)
from shared_model.release.novelty import FeatureReference
from shared_model.release.signature import digest_of, verify
from shared_model.system.checked import build
from shared_model.system.documents import from_json
from shared_model.system.peer_text import peer_text
from shared_model.vocabulary import clinical_width

_MAX_BYTES = {
    DOCUMENT_FILE: 2**23,
    MODEL_FILE: 2**27,
    REFERENCE_FILE: 2**24,
    MODEL_CARD_FILE: 2**20,
    ONNX_FILE: 2**27,
    SIGNATURE_FILE: 2**10,
    CERTIFICATE_FILE: 2**16,
}
"""Of every file that a release may have: some times more than any release here needs. The ONNX file is compared with
its digest, and never opened."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedRelease:
    """A release whose files are what its document says."""

    document: Release
    facts: ReleaseRead
    network: FusionNet
    reference: FeatureReference | None


def open_release(folder: Path, *, site: SiteFile | None, accept_unsigned: bool) -> OpenedRelease:
    """Read a release folder.

    Args:
        folder: as ``fedmammo server release`` made it.
        site: whose list of releases and whose authority are asked; None asks nobody.
        accept_unsigned: whether one without signature may be opened.

    Raises:
        ReleaseError: a file is missing, too large, a link or another than the document names; the signature is missing,
            wrong or somebody else's; the site has not approved the digest; the network does not fit, or is not finite.
        ConfigError: a file of the site cannot be read.
    """
    names = _names(folder)
    content = _read(folder, DOCUMENT_FILE)
    digest = digest_of(content)
    is_signed, is_signer_known = _check_signature(folder, names, content, site, accept_unsigned=accept_unsigned)
    is_approved = site is not None and digest in site.releases()
    if site is not None and not is_approved:
        raise ReleaseError(
            f"Expected the release {digest} to be approved at this site; who approves it writes the digest into "
            f"{site.approved_releases.name} beside site.yaml."
        )
    document = _document(content)
    if document.is_signed and not is_signed:
        raise ReleaseError(f"Expected {SIGNATURE_FILE} in {folder}: the release was signed, and its signature is gone.")
    files = _contents(folder, names, document)
    return OpenedRelease(
        document=document,
        facts=ReleaseRead(
            name=document.name,
            digest=digest,
            is_signed=is_signed,
            is_signer_known=is_signer_known,
            is_approved=is_approved,
        ),
        network=_network(document, files[MODEL_FILE]),
        reference=_reference(files.get(REFERENCE_FILE)),
    )


def _names(folder: Path) -> frozenset[str]:
    try:
        names = frozenset(os.listdir(folder))  # noqa: PTH208, names and no paths
    except OSError as error:
        raise ReleaseError(f"Expected a release in {folder}: {os.strerror(error.errno or errno.EIO)}.") from error
    if unknown := sorted(names - set(_MAX_BYTES)):
        raise ReleaseError(f"Expected nothing but the files of a release in {folder}, got {unknown[0][:80]!r}.")
    return names


def _read(folder: Path, name: str) -> bytes:
    """Read one regular file of bounded size; links are not followed, and nothing waits for a pipe's other end."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ReleaseError(f"Expected {name} in {folder} to be a file.")
            content = file.read(_MAX_BYTES[name] + 1)
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        reason = "it is a link" if is_link else os.strerror(error.errno or errno.EIO)
        raise ReleaseError(f"Expected {name} in {folder}: {reason}.") from error
    if len(content) > _MAX_BYTES[name]:
        raise ReleaseError(f"Expected {name} in {folder} of at most {_MAX_BYTES[name]} bytes, got more.")
    return content


def _check_signature(
    folder: Path, names: frozenset[str], document: bytes, site: SiteFile | None, *, accept_unsigned: bool
) -> tuple[bool, bool]:
    """Return whether the release is signed, and whether by somebody whom the site's authority knows."""
    if SIGNATURE_FILE not in names:
        if not accept_unsigned:
            raise ReleaseError(f"Expected a signed release in {folder}; --accept-unsigned reads with one that is not.")
        return False, False
    authority = None if site is None else _authority(site)
    signature, certificate = _read(folder, SIGNATURE_FILE), _read(folder, CERTIFICATE_FILE)
    verify(document, signature, certificate=certificate, authority=authority)
    return True, authority is not None


def _authority(site: SiteFile) -> bytes:
    try:
        return site.authority.read_bytes()
    except OSError as error:
        raise ReleaseError(f"Expected the federation's authority in {site.authority}: {error.strerror}.") from error


def _document(content: bytes) -> Release:
    try:
        values = from_json(content)
    except ValueError as error:
        raise ReleaseError(f"Expected {DOCUMENT_FILE} to be JSON: {' '.join(str(error).split())[:200]}") from error
    # First of all, since another version has other keys.
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise ReleaseError(f"Expected format_version={str(version)[:20]} = {FORMAT_VERSION} in {DOCUMENT_FILE}.")
    document = build(Release, values, path="release")
    grey, known = document.contract.grey_reference, {field.name for field in fields(GreyLevels)}
    if grey is not None and (unknown := sorted(set(grey.lowest) - known)):
        raise ReleaseError(f"Expected grey_reference of {', '.join(sorted(known))}, got {peer_text(unknown[0], 40)!r}.")
    return document


def _contents(folder: Path, names: frozenset[str], document: Release) -> Mapping[str, bytes]:
    contents = {name: _read(folder, name) for name in document.files}
    for name, content in contents.items():
        if digest_of(content) != document.files[name]:
            raise ReleaseError(
                f"Expected {name} in {folder} to be the file that {DOCUMENT_FILE} names; it was changed."
            )
    known = {*contents, DOCUMENT_FILE, SIGNATURE_FILE, CERTIFICATE_FILE}
    if extra := sorted(names - known):
        raise ReleaseError(f"Expected {extra[0]} in {folder} to be named by {DOCUMENT_FILE}.")
    return contents


def _network(document: Release, content: bytes) -> FusionNet:
    contract = document.contract
    if contract.model.reads_frozen_features:
        known = VARIANTS[contract.model.backbone].weights_sha256
        if document.provenance.encoder_sha256 != known:
            raise ReleaseError(
                f"Expected encoder_sha256={document.provenance.encoder_sha256} == {known}, that of here."
            )
    arrays = _arrays(content, MODEL_FILE)
    network = build_network(contract.model, clinical_width(contract.features), seed=0)
    trainable = set(trainable_state(network))
    try:
        load_trainable(network, {name: array for name, array in arrays.items() if name in trainable})
        load_constants(network, {name: array for name, array in arrays.items() if name not in trainable})
    except ValueError as error:
        raise ReleaseError(f"Expected {MODEL_FILE} to hold the network of the contract: {error}") from error
    return network.eval()


def _reference(content: bytes | None) -> FeatureReference | None:
    if content is None:
        return None
    try:
        reference = FeatureReference(**_arrays(content, REFERENCE_FILE))
    except (TypeError, ValueError) as error:
        raise ReleaseError(f"Expected {REFERENCE_FILE} to hold mean and whitening: {error}") from error
    if len(reference.mean) != FEATURE_WIDTH:
        raise ReleaseError(f"Expected {REFERENCE_FILE} of {FEATURE_WIDTH} features, got {len(reference.mean)}.")
    return reference


def _arrays(content: bytes, name: str) -> Mapping[str, Float32Array]:
    try:
        arrays = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"Expected {name} to be a safetensors file: {str(error)[:200]}.") from error
    if not all(str(array.dtype) == "float32" for array in arrays.values()) or not is_finite(arrays):
        raise ReleaseError(f"Expected {name} to hold finite numbers of float32.")
    return arrays
