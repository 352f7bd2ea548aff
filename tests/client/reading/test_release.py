"""A release folder from a stranger: whatever was done to it, it is opened as it was signed, or refused in one line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from client.reading.release import open_release
from shared_model.errors import ReleaseError
from shared_model.network.state import trainable_state
from shared_model.release.signature import digest_of
from tests.hospital_kits import kit_in
from tests.releases import release_in


@pytest.fixture
def folder(calibrated, tmp_path):
    return shutil.copytree(calibrated.folder, tmp_path / "release")


def opened(folder, **flags):
    return open_release(folder, **({"site": None, "accept_unsigned": False} | flags))


def rewrite(folder, **changes):
    """Change keys of release.json and take the signature away, as somebody who can sign nothing would."""
    values = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps(values | changes))
    for name in ("release.sig", "certificate.pem"):
        (folder / name).unlink()


def replace_file(folder, name, content):
    """Put another file in, with its digest in release.json."""
    values = json.loads((folder / "release.json").read_text())
    (folder / name).write_bytes(content)
    rewrite(folder, is_signed=False, files=values["files"] | {name: digest_of(content)})


def test_what_was_written_is_opened(calibrated):
    found = opened(calibrated.folder)
    assert found.facts.digest == calibrated.digest
    assert (found.facts.is_signed, found.facts.is_signer_known, found.facts.is_approved) == (True, False, False)
    for name, array in trainable_state(calibrated.network).items():
        assert torch.equal(torch.from_numpy(array), torch.from_numpy(trainable_state(found.network)[name]))


@pytest.mark.parametrize("name", ["release.json", "model.safetensors", "reference.safetensors", "model_card.md"])
def test_a_changed_byte_is_noticed(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(ReleaseError, match="was changed"):
        opened(folder)


@pytest.mark.parametrize(
    "name", ["release.json", "release.sig", "certificate.pem", "model.safetensors", "reference.safetensors"]
)
def test_a_missing_file_a_link_a_pipe_and_a_folder_are_refused(folder, name, tmp_path):
    (folder / name).rename(tmp_path / "aside")
    with pytest.raises(ReleaseError, match=rf"Expected .*({name}|signed)"):
        opened(folder)
    (folder / name).symlink_to(tmp_path / "aside")
    with pytest.raises(ReleaseError, match=f"Expected {name} in .*: it is a link"):
        opened(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ReleaseError, match=f"Expected {name} in .* to be a file"):
        opened(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ReleaseError, match=f"Expected {name} in"):
        opened(folder)


def test_a_file_more_is_refused(folder):
    (folder / "weights.pt").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"nothing but the files of a release .* 'weights.pt'"):
        opened(folder)


@pytest.mark.parametrize("name", ["release.json", "model.safetensors", "release.sig"])
def test_a_huge_file_is_not_read(folder, name):
    with (folder / name).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ReleaseError, match=f"Expected {name} in .* of at most"):
        opened(folder)


def test_a_signature_that_was_taken_away_is_missed(folder):
    for name in ("release.sig", "certificate.pem"):
        (folder / name).unlink()
    with pytest.raises(ReleaseError, match=r"Expected a signed release .*--accept-unsigned"):
        opened(folder)
    with pytest.raises(ReleaseError, match="was signed, and its signature is gone"):
        opened(folder, accept_unsigned=True)


def test_an_unsigned_one_is_opened_only_if_that_is_accepted_and_says_so(tmp_path):
    made = release_in(tmp_path, is_signed=False)
    with pytest.raises(ReleaseError, match="Expected a signed release"):
        opened(made.folder)
    assert not opened(made.folder, accept_unsigned=True).facts.is_signed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {name: np.full_like(array, np.nan) for name, array in arrays.items()}, "finite"),
        (lambda arrays: {name: array.astype(np.float64) for name, array in arrays.items()}, "float32"),
        (lambda arrays: {name: array[..., :-1] for name, array in arrays.items()}, "network of the contract"),
        (lambda arrays: {}, "network of the contract"),
        (lambda arrays: arrays | {"more": np.zeros(2, np.float32)}, "network of the contract"),
    ],
)
def test_another_network_is_refused(folder, change, message):
    replace_file(folder, "model.safetensors", save(change(load((folder / "model.safetensors").read_bytes()))))
    with pytest.raises(ReleaseError, match=message):
        opened(folder, accept_unsigned=True)


@pytest.mark.parametrize("name", ["model.safetensors", "reference.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"])
def test_what_is_no_safetensors_file_is_refused(folder, name, content):
    replace_file(folder, name, content)
    with pytest.raises(ReleaseError, match=f"Expected {name}"):
        opened(folder, accept_unsigned=True)


def test_a_reference_of_another_width_is_refused(folder):
    arrays = {"mean": np.zeros(3, np.float32), "whitening": np.eye(3, dtype=np.float32)}
    replace_file(folder, "reference.safetensors", save(arrays))
    with pytest.raises(ReleaseError, match="320"):
        opened(folder, accept_unsigned=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version=2 = 3"),
        ({"format_version": None}, "format_version"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "files"),
        ({"files": {}}, "files"),
        ({"limits": []}, "limits"),
        ({"more": 1}, "more"),
        ({"threshold": {"value": 2}}, "threshold"),
        ({"name": "x" * 5000}, "name"),
        ({"name": "good\n  probability of malignancy 0.001"}, "name"),
        ({"limits": ["\x1b[2J"]}, "limits"),
    ],
)
def test_another_document_is_refused(folder, changes, message):
    rewrite(folder, is_signed=False, **changes)
    with pytest.raises(ReleaseError, match=message) as refused:
        opened(folder, accept_unsigned=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("interval", [[-0.5, 0.5], [0.3, 1.5], [0.5, 0.6], [0.1, 0.2]])
def test_a_threshold_beside_its_interval_is_refused_before_a_lesion_is_read(folder, interval):
    values = json.loads((folder / "release.json").read_text())["threshold"]
    rewrite(folder, is_signed=False, threshold=values | {"interval": interval})
    with pytest.raises(ReleaseError, match=r"threshold\.interval"):
        opened(folder, accept_unsigned=True)


def test_a_grey_reference_of_other_numbers_is_refused_before_a_lesion_is_read(folder):
    values = json.loads((folder / "release.json").read_text())["contract"]
    reference = {"num_pictures": 9, "lowest": {"colour": 0.0}, "highest": {"colour": 1.0}, "values": {"colour": [0.5]}}
    rewrite(folder, is_signed=False, contract=values | {"grey_reference": reference})
    with pytest.raises(ReleaseError, match="colour"):
        opened(folder, accept_unsigned=True)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"name": 1, "name": 2}', b"NaN"])
def test_what_is_no_document_is_refused(folder, content):
    rewrite(folder)
    (folder / "release.json").write_bytes(content)
    with pytest.raises(ReleaseError, match=r"release\.json") as refused:
        opened(folder, accept_unsigned=True)
    assert "\n" not in str(refused.value)


class TestTheOnnxFile:
    """For other programs: to a reader here it is bytes with a digest, whatever they are."""

    @pytest.fixture
    def folder(self, tmp_path):
        made = release_in(tmp_path, more={"model.onnx": b"of which nothing is opened"})
        return shutil.copytree(made.folder, tmp_path / "copy")

    def test_is_no_onnx_to_a_reader(self, folder):
        assert opened(folder).document.has_onnx

    def test_another_one_is_noticed(self, folder):
        (folder / "model.onnx").write_bytes(b"with another network in it")
        with pytest.raises(ReleaseError, match=r"Expected model.onnx in .* it was changed"):
            opened(folder)

    def test_one_with_a_digest_of_its_own_breaks_the_signature(self, folder):
        values = json.loads((folder / "release.json").read_text())
        (folder / "model.onnx").write_bytes(b"with another network in it")
        values["files"]["model.onnx"] = digest_of(b"with another network in it")
        (folder / "release.json").write_text(json.dumps(values))
        with pytest.raises(ReleaseError, match="the release was changed, or signed with another key"):
            opened(folder)

    def test_one_that_is_missing_is_missed(self, folder):
        (folder / "model.onnx").unlink()
        with pytest.raises(ReleaseError, match=r"Expected model.onnx in .*: No such file"):
            opened(folder)

    def test_one_that_nobody_signed_is_refused(self, calibrated, tmp_path):
        folder = shutil.copytree(calibrated.folder, tmp_path / "release")
        (folder / "model.onnx").write_bytes(b"put here later")
        with pytest.raises(ReleaseError, match=r"Expected model.onnx in .* to be named by release.json"):
            opened(folder)

    def test_a_reader_imports_nothing_that_could_open_it(self, folder):
        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from client.reading.reader import Reader\n"
            f"Reader.open(Path({str(folder)!r}))\n"
            "print(sorted({'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)))\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
        assert done.stdout == "[]\n"


class TestASite:
    def test_reads_only_with_what_it_has_approved(self, calibrated, tmp_path):
        kit = kit_in(tmp_path)
        (kit.folder / "ca.pem").write_bytes(calibrated.authority)
        with pytest.raises(ReleaseError, match=rf"{calibrated.digest} to be approved .*approved_releases.txt"):
            opened(calibrated.folder, site=kit.site)
        (kit.folder / "approved_releases.txt").unlink()
        with pytest.raises(ReleaseError, match="to be approved"):
            opened(calibrated.folder, site=kit.site)
        (kit.folder / "approved_releases.txt").write_text(calibrated.digest)
        facts = opened(calibrated.folder, site=kit.site).facts
        assert (facts.is_signer_known, facts.is_approved) == (True, True)

    def test_refuses_what_another_federation_signed_even_if_approved(self, calibrated, tmp_path):
        kit = kit_in(tmp_path)
        (kit.folder / "approved_releases.txt").write_text(calibrated.digest)
        with pytest.raises(ReleaseError, match="from somebody else"):
            opened(calibrated.folder, site=kit.site)
