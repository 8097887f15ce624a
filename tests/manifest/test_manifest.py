import json
import math
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from commentary_hub.errors import EvidenceError, ManifestInvalid, ReferenceSyntaxError
from commentary_hub.manifest import (
    DatasetBinding,
    DatasetIdentity,
    Evidence,
    KeyScheme,
    Manifest,
    Reference,
    Status,
    TensorInfo,
    card_metadata,
    render_card,
    split_card,
)

ROOT = Path(__file__).parents[2]


def manifest(**changes):
    settings = {
        "name": "toy",
        "kind": "example_weights",
        "parameters": {"rows": 2},
        "tensors": {"commentary.logits": TensorInfo(shape=(2, 1), dtype="F32")},
        "loss_reduction": "mean",
        "dataset": DatasetBinding(identity=DatasetIdentity(id="ada/toy"), rows=2, key=KeyScheme(form="image")),
        "versions": {"torch": "2"},
    }
    return Manifest(**(settings | changes))


@pytest.mark.parametrize(("name", "model"), [("commentary-1", Manifest), ("commentary-evidence-1", Evidence)])
def test_the_committed_schemas_are_the_models(name, model):
    committed = json.loads((ROOT / "commentary_hub" / "manifest" / "schema" / f"{name}.json").read_text())
    assert committed == model.model_json_schema(mode="serialization")


def test_a_manifest_round_trips_and_meets_its_schema():
    one = manifest(licence="mit", status=Status(state="deprecated", reason="Better labels exist."))
    assert Manifest.from_json(one.to_json()) == one
    jsonschema.validate(json.loads(one.to_json()), Manifest.model_json_schema(mode="serialization"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../x"), ("name", ""), ("kind", "Upper"), ("loss_reduction", "median"), ("format_version", 0),
        ("surprise", 1), ("status", {"state": "deprecated"}), ("tensors", {"x": {"shape": [-1], "dtype": "F32"}}),
        ("value_range", [0.0, None]),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(field, value):
    raw = json.loads(manifest().to_json()) | {field: value}
    with pytest.raises(ManifestInvalid, match=field if field != "surprise" else "surprise"):
        Manifest.from_json(json.dumps(raw))


def test_infinite_numbers_are_no_manifest():
    text = manifest().to_json().replace('"versions"', '"value_range": [0, Infinity], "versions"')
    with pytest.raises(ManifestInvalid):
        Manifest.from_json(text)
    with pytest.raises(ValueError, match="finite"):
        manifest(value_range=(0.0, math.inf))


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data):
    with pytest.raises(ManifestInvalid):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("name", "value"), [("accuracy_mean", 1.1), ("accuracy_ci95", [-0.1, 1]), ("difference_mean", 5.0),
                        ("difference_ci95", [-2, 0]), ("per_class_difference", [1.5])])  # fmt: skip
def test_evidence_beyond_what_fractions_can_be_is_refused(name, value):
    raw = json.loads((ROOT / "tests" / "golden" / "format-1" / "evidence.json").read_text())
    Evidence.from_json(json.dumps(raw))
    raw["measurements"][0][name] = value
    with pytest.raises(EvidenceError, match=name):
        Evidence.from_json(json.dumps(raw))


def test_a_card_carries_the_tags_and_splits_again():
    metadata, body = split_card(render_card(manifest(), "# Hello\n\ntext"))
    assert metadata == card_metadata(manifest())
    assert body.strip() == "# Hello\n\ntext"


def test_a_card_may_describe_many_configurations_and_use_aliases():
    configuration = {"features": [{"name": f"column_{n}", "dtype": "int64"} for n in range(20)], "splits": []}
    described = {"dataset_info": [{"config_name": f"c{n}", **configuration} for n in range(400)]}
    block = yaml.safe_dump(described)  # with an alias for every configuration but one
    assert "*id001" in block
    assert split_card(f"---\n{block}---\n# Hello") == (described, "# Hello")
    block = json.dumps(described)
    assert len(block) > 300_000
    assert split_card(f"---\n{block}\n---\n")[0] == described
    assert split_card("---\na: &x {b: 1}\nc: {<<: *x, d: *x}\n---\n")[0]["c"] == {"b": 1, "d": {"b": 1}}


LAYERS = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
MERGES = "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40))])
DEEP = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))])


@pytest.mark.parametrize(
    "block",
    ["- a", "a: [", f"a: {'x' * (1 << 20)}", "a: &x [*x]", "a: *x", LAYERS, MERGES, DEEP,
     f"a: &x {'x' * 100_000}\nb: [{','.join(['*x'] * 30)}]", f"a: [{'[],' * 300_000}]", f"a: [{'x,' * 500_000}]",
     f"a: 1{':1' * 400_000}", f'a: !!int "1 {":1" * 300_000}"', f'a: !!int "1{":٣" * 200_000}"',
     f'a: !<tag:yaml.org,2002:float> " 1{":1" * 300_000}"', f"a: !!float '1{':1' * 300}.5'", "a: !!timestamp x",
     "a: !!bool x", "".join(f"%TAG !t{n}! tag:x,2000:\n" for n in range(40_000)) + "--- {}",
     "a: !!set\n" + "\n".join(f"  ? {n * (2**61 - 1)}" for n in range(8, 28_000)),
     "\n".join(f"{n * (2**61 - 1):#x}: 1" for n in range(1, 28_000))],
)  # fmt: skip
def test_a_card_with_hostile_yaml_is_refused_at_once(block):
    began = time.perf_counter()
    with pytest.raises(ManifestInvalid):
        split_card(f"---\n{block}\n---\n")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", ["ada/toy", "ada/toy@v1", "Ada.B/t-o_y@refs/pr/1", "a/b@" + "0" * 40])
def test_references(text):
    assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "toy",
        "a/b/c",
        "a/../b",
        "/a/b",
        "a/b@",
        "a/b@x y",
        "-a/b",
        "a/b--c",
        "a/b..c",
        "https://x/a/b",
        "a/" + "b" * 97,
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(ReferenceSyntaxError, match="owner/name"):
        Reference.parse(text)
