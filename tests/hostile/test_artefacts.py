"""Artefacts as an attacker or a broken disk would leave them: each ends in one clear error, never in code or NaN."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_bytes

from commentary_hub.artefact import load
from commentary_hub.errors import (
    ArtefactError,
    DigestMismatch,
    FormatTooNew,
    ManifestInvalid,
    ManifestMissing,
    TensorFileInvalid,
    UnknownKind,
    UnsafeFile,
)
from commentary_hub.manifest import FileDigest, Manifest
from tests.artefact.test_artefact import write


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "toy")
    return tmp_path / "toy"


def edit(folder, **changes):
    path = folder / "commentary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_tensors(folder, data):
    """Put other bytes in place of the tensors and sign them, as an attacker would."""
    path = folder / "commentary.safetensors"
    path.write_bytes(data)
    edit(
        folder,
        files=json.loads((folder / "commentary.json").read_text())["files"]
        | {path.name: FileDigest.of_file(path).model_dump()},
    )


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestMissing, match=r"commentary\.json") as caught:
        load(tmp_path)
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": "other"}', '{"format": "commentary", "format_version": 1}', "[" * 100_000],
)
def test_a_manifest_that_is_none(folder, text):
    (folder / "commentary.json").write_text(text)
    with pytest.raises(ManifestInvalid):
        load(folder)


def test_a_newer_format_says_upgrade(folder):
    edit(folder, format_version=2, something_new=True)
    with pytest.raises(FormatTooNew, match="upgrade commentary-hub"):
        load(folder)


def test_a_huge_manifest_is_not_parsed():
    with pytest.raises(ManifestInvalid, match="larger than"):
        Manifest.from_json(" " * (5 * 1024 * 1024))


def test_a_changed_tensor_file(folder):
    path = folder / "commentary.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch, match=r"commentary\.safetensors"):
        load(folder)


def test_a_missing_tensor_file(folder):
    (folder / "commentary.safetensors").unlink()
    with pytest.raises(DigestMismatch, match="missing"):
        load(folder)


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 100_000_001) + b"{" * 64,
        header(b"{"),
        header(b"[" * 5000),
        header(b'{"commentary.logits": {"dtype": "F32", "shape": [4, 1], "data_offsets": [0, 16]}}'),
        header(b'{"commentary.logits": {"dtype": "F32", "shape": [4, 1], "data_offsets": [-16, 0]}}', b"\x00" * 16),
        header(b'{"commentary.logits": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}'),
        header(b'{"commentary.logits": {"dtype": "F32", "shape": [100000000, 1000], "data_offsets": [0, 4]}}', b"...."),
    ],
)  # fmt: skip
def test_hostile_headers(folder, data):
    replace_tensors(folder, data)
    with pytest.raises(TensorFileInvalid):
        load(folder)


def test_a_truncated_file(folder):
    whole = (folder / "commentary.safetensors").read_bytes()
    replace_tensors(folder, whole[:-3])
    with pytest.raises(TensorFileInvalid, match="whole"):
        load(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_nan_in_a_signed_file(folder, verify):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "commentary.safetensors")
    tensors["commentary.logits"] = torch.full_like(tensors["commentary.logits"], float("inf"))
    save_file(tensors, folder / "x.safetensors")
    replace_tensors(folder, (folder / "x.safetensors").read_bytes())
    (folder / "x.safetensors").unlink()
    with pytest.raises(TensorFileInvalid, match="NaN or infinity"):
        load(folder, verify=verify)


class _Bomb:
    def __reduce__(self):
        return (os.mkdir, ("owned",))


def pickled():
    return pickle.dumps(_Bomb())


@pytest.mark.parametrize("name", ["commentary.pkl", "pytorch_model.bin", "x.pt", "plots/a.pickle", "run.py", "x.npy"])
def test_files_that_can_carry_code_are_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickled())
    with pytest.raises(UnsafeFile, match="remove it"):
        load(folder)


@pytest.mark.parametrize("disguise", ["raw", "zip"])
def test_a_pickle_in_safetensors_clothes_is_never_run(folder, disguise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickled()
    if disguise == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("archive/data.pkl", data)
        data = (tmp_path / "x.zip").read_bytes()
    replace_tensors(folder, data)
    with pytest.raises(TensorFileInvalid):
        load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "a/../../b.json", "a\\b.json", "./README.md"])
def test_a_manifest_that_names_files_outside(folder, name):
    files = json.loads((folder / "commentary.json").read_text())["files"]
    edit(folder, files=files | {name: {"sha256": "0" * 64, "size_bytes": 1}})
    with pytest.raises(ManifestInvalid, match="outside"):
        load(folder)


@pytest.mark.parametrize("target", ["../commentary.safetensors", "plots/weights.png"])
def test_an_index_decides_nothing(folder, target):
    """Another file's tensors, under the name of a picture or outside: what is loaded is what the digests cover."""
    honest = load(folder)
    other = {name: torch.full_like(tensor, 7) for name, tensor in load_file(folder / "commentary.safetensors").items()}
    (folder / target).parent.mkdir(exist_ok=True)
    save_file(other, folder / target)
    index = folder / "commentary.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(other, target)}))
    named = [index.name] if target.startswith("..") else [index.name, target]
    files = json.loads((folder / "commentary.json").read_text())["files"]
    edit(folder, files=files | {name: FileDigest.of_file(folder / name).model_dump() for name in named})
    found = load(folder)
    assert found.tensor_digest == honest.tensor_digest
    assert torch.equal(found.commentary.logits, honest.commentary.logits)


def test_a_tensor_in_two_files_is_refused(folder):
    twin = folder / "twin.safetensors"
    twin.write_bytes((folder / "commentary.safetensors").read_bytes())
    files = json.loads((folder / "commentary.json").read_text())["files"]
    edit(folder, files=files | {twin.name: FileDigest.of_file(twin).model_dump()})
    with pytest.raises(TensorFileInvalid, match="nothing more of that name"):
        load(folder)


@pytest.mark.parametrize("kind", ["os.system", "torch.load", "../evil", "Example"])
def test_a_kind_is_a_name_and_nothing_to_import(folder, kind):
    edit(folder, kind=kind)
    with pytest.raises(ManifestInvalid, match="kind"):
        load(folder)


def test_an_unknown_kind_lists_the_known_ones(folder):
    edit(folder, kind="os_system")
    with pytest.raises(UnknownKind, match="example_weights"):
        load(folder)


@pytest.mark.parametrize("neutral", ["-1000", "NaN", "1e999", '"much"'])
def test_a_neutral_weight_that_is_none_is_refused(folder, neutral):
    path = folder / "commentary.json"
    manifest = json.loads(path.read_text())
    manifest["parameters"]["neutral"] = "HERE"
    path.write_text(json.dumps(manifest).replace('"HERE"', neutral))
    with pytest.raises(ManifestInvalid):
        load(folder)


def test_a_table_of_whole_numbers_is_refused(folder):
    tensors = load_file(folder / "commentary.safetensors")
    name = next(name for name in tensors if name.endswith("logits"))
    replace_tensors(folder, save_bytes(tensors | {name: tensors[name].long()}))
    with pytest.raises(ArtefactError, match="logits"):
        load(folder)


def test_parameters_that_ask_for_a_huge_module_cost_nothing(folder):
    manifest = json.loads((folder / "commentary.json").read_text())
    edit(folder, parameters=manifest["parameters"] | {"rows": 10**15})
    with pytest.raises(ArtefactError):
        load(folder)
