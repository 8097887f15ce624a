"""Opening datasets: the same examples through every door, splits, and clear refusals."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from commentary_hub.data import (
    Examples,
    check_disjoint,
    content_key,
    content_keys,
    open_examples,
    open_raw,
    raw_examples,
    split_examples,
    target_digest,
)
from commentary_hub.errors import InputError, LabelError, ShapeError, SplitError
from commentary_hub.manifest import DatasetIdentity

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 1, 1, 0]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def table():
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])})
    return Dataset.from_dict({"image": [Image.fromarray(p) for p in PICTURES], "label": LABELS}, features=features)


@pytest.fixture
def folder(tmp_path):
    for number, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        place = tmp_path / "pictures" / ["cat", "dog"][label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number}.png")
    return tmp_path / "pictures"


def test_one_dataset_has_the_same_keys_through_every_door(tmp_path, folder):
    table().to_parquet(tmp_path / "train.parquet")
    doors = [
        open_examples(table()),
        open_examples(table().with_format("torch")),
        open_examples(tmp_path / "train.parquet"),
        open_examples(folder),
        open_examples(ImageFolder(folder, transform=v2.RandomCrop(4), target_transform=lambda label: label + 5)),
        open_examples([(picture, label) for picture, label in zip(PICTURES, LABELS, strict=True)]),
        open_examples([{"img": p, "label": y} for p, y in zip(PICTURES, LABELS, strict=True)]),
        open_examples(TensorDataset(torch.from_numpy(PICTURES).permute(0, 3, 1, 2), torch.tensor(LABELS))),
        open_examples(ConcatDataset([Subset(table(), [3, 4, 5]), Subset(ImageFolder(folder), [0, 1, 2, 3])])),
    ]
    expected = {content_key(picture): target_digest(label) for picture, label in zip(PICTURES, LABELS, strict=True)}
    for examples in doors:
        assert examples.inputs.shape[1:] == (3, 9, 7)
        assert examples.inputs.dtype == torch.float32
        assert examples.inputs.max() <= 1
        found = dict(zip(map(bytes, examples.keys), map(bytes, examples.target_digests), strict=True))
        assert found == expected
    assert doors[0].classes == ("cat", "dog")
    assert torch.equal(doors[0].inputs[2], torch.from_numpy(PICTURES[2]).permute(2, 0, 1) / 255)


def test_a_split_that_lacks_a_class_is_numbered_by_the_classes_of_another(tmp_path):
    """Names in sorted order would call a dog 1 here, and 2 where there are cats."""
    rows = [(np.zeros(3) + number, name) for number, name in enumerate(["dog", "bird", "dog"])]
    alone = open_examples(rows)
    assert (alone.classes, alone.targets.tolist()) == (("bird", "dog"), [1, 0, 1])
    classes = ("bird", "cat", "dog")
    examples = open_examples(rows, classes=classes)
    assert (examples.classes, examples.targets.tolist()) == (classes, [2, 0, 2])
    assert np.array_equal(examples.keys, alone.keys)
    half = open_examples(table(), classes=("dog", "ant", "cat"))  # numbers under names are renumbered too
    assert half.targets.tolist() == [{"cat": 2, "dog": 0}[["cat", "dog"][label]] for label in LABELS]
    assert open_examples([(np.zeros(3), 1)], classes=("a", "b")).classes == ("a", "b")
    with pytest.raises(LabelError, match="class 'dog' of the dataset is none of classes="):
        open_examples(rows, classes=("bird", "cat"))


@pytest.mark.parametrize(
    "columns",
    [
        {"headline": ["a b", "c d"], "id": [7, 8], "label": [0, 1]},
        {"headline": ["a b", "c d"], "label": [0, 1], "__index_level_0__": [0, 1]},
        {"tweet": ["a b", "c d"], "label": [0, 1], "input_ids": [[1, 2], [3]], "attention_mask": [[1, 1], [1]]},
        {"comment_text": ["a b", "c d"], "label": [0, 1], "toxic": [0.5, 0.1]},
    ],
)
def test_numbers_that_only_number_texts_do_not_compete_with_them(columns):
    examples = open_examples(Dataset.from_dict(columns))
    assert (examples.form, examples.targets.tolist()) == ("text", [0, 1])


def test_a_saved_split_without_a_name_is_called_as_its_folder(tmp_path):
    table().train_test_split(3, seed=0).save_to_disk(tmp_path)
    assert len(open_examples(tmp_path / "test", split="test")) == len(open_examples(tmp_path / "test")) == 3
    with pytest.raises(InputError, match="'train' alone"):
        open_examples(tmp_path / "test", split="validation")


def test_a_hub_id_is_looked_for_among_local_copies_and_keeps_its_name(tmp_path, monkeypatch):
    for config, half in (("plain", [0, 1, 2]), ("other", [3, 4, 5])):
        place = tmp_path / "copies" / "ada" / "pictures" / config
        place.mkdir(parents=True)
        table().select(half).to_parquet(place / "train-00000-of-00001.parquet")
    table().to_parquet(tmp_path / "copies" / "ada" / "pictures" / "other" / "test-00000-of-00001.parquet")
    monkeypatch.setenv("COMMENTARY_HUB_DATASETS", os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "copies")]))
    plain, other = (open_examples("ada/pictures", config=config) for config in ("plain", "other"))
    assert plain.identity == DatasetIdentity(id="ada/pictures", config="plain", split="train")
    assert [bytes(key) for key in plain.keys] == [content_key(picture) for picture in PICTURES[:3]]
    assert [bytes(key) for key in other.keys] == [content_key(picture) for picture in PICTURES[3:]]
    assert len(open_examples("ada/pictures", config="other", split="test")) == 6
    with pytest.raises(InputError, match="no configuration 'nope': it has other, plain"):
        open_examples("ada/pictures", config="nope")


def test_a_file_and_a_stored_dataset_have_one_split(tmp_path):
    table().to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=r"Unknown split \"test\". Should be one of \['train'\]"):
        open_examples(tmp_path / "rows.parquet", split="test")
    assert len(open_examples(tmp_path / "rows.parquet", split="train[:2]")) == 2
    table().save_to_disk(tmp_path / "stored")
    assert len(open_examples(tmp_path / "stored")) == 6
    with pytest.raises(InputError, match="holds the split 'train' alone"):
        open_examples(tmp_path / "stored", split="test")
    load_dataset("parquet", data_files={"test": str(tmp_path / "rows.parquet")}, split="test[:3]").save_to_disk(
        tmp_path / "slice"
    )
    assert open_examples(tmp_path / "slice", split="test").identity.split == "test"
    with pytest.raises(InputError, match=r"holds the split 'test\[:3\]' alone"):
        open_examples(tmp_path / "slice")


def test_a_revision_and_other_names_do_not_come_from_local_copies(tmp_path, monkeypatch):
    (tmp_path / "ada" / "pictures").mkdir(parents=True)
    table().to_parquet(tmp_path / "ada" / "pictures" / "train.parquet")
    monkeypatch.setenv("COMMENTARY_HUB_DATASETS", str(tmp_path))
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda name, *args, **facts: asked.append(name) or table())
    open_examples("ada/pictures", revision="main")
    open_examples("ada/other")
    open_examples("../ada")
    assert asked == ["ada/pictures", "ada/other", "../ada"]


def test_digits_are_keyed_as_the_rows_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = open_examples("sklearn:digits", limit=20)
    rows = load_digits()
    assert np.array_equal(digits.keys, content_keys(rows.data[:20]))
    assert torch.equal(digits.inputs[5].flatten(), torch.tensor(rows.data[5] / 16, dtype=torch.float32))
    assert digits.classes == tuple("0123456789")
    assert repr(digits) == "Examples('sklearn:digits': 20 of float32 [1, 8, 8], 10 classes, form 'numeric')"


def test_text_is_keyed_whole_and_seen_as_tokens():
    texts = Dataset.from_dict({"text": ["One good film.", "one GOOD film ."], "label": ["pos", "neg"]})
    examples = open_examples(texts)
    assert bytes(examples.keys[0]) == content_key("One good film.") != bytes(examples.keys[1])
    assert torch.equal(examples.inputs[0], examples.inputs[1])
    assert examples.inputs.dtype == torch.int64
    assert (examples.classes, examples.targets.tolist()) == (("neg", "pos"), [1, 0])


def test_numeric_columns_are_one_row_and_a_column_of_lists_keeps_its_type():
    columns = Dataset.from_dict({"a": [1, 2], "b": [0.5, 1.5], "label": [0, 1]})
    assert bytes(open_examples(columns).keys[1]) == content_key(np.array([2.0, 1.5]))
    features = Features({"x": [Value("float32")], "y": Value("int64")})
    lists = Dataset.from_dict({"x": [[0.1, 0.2], [0.3, 0.4]], "y": [0, 1]}, features=features)
    assert bytes(open_examples(lists).keys[0]) == content_key(np.array([0.1, 0.2], np.float32))


def test_mixed_sizes_need_a_size_and_keys_do_not_change_with_it():
    pairs = [(PICTURES[0], 0), (PICTURES[1][:5], 1), (PICTURES[2][:, :, 0], 0)]
    with pytest.raises(ShapeError, match="size="):
        open_examples(pairs)
    examples = open_examples(pairs, size=(4, 4))
    assert examples.inputs.shape == (3, 3, 4, 4)
    assert [bytes(key) for key in examples.keys] == [content_key(value) for value, _ in pairs]


def test_corrected_labels_change_target_digests_alone():
    examples = open_examples(table())
    other = examples.with_targets(1 - examples.targets)
    assert (other.target_digests != examples.target_digests).any(axis=1).all()
    assert other.fingerprint() == examples.fingerprint() != examples.subset([1, 0]).fingerprint()
    assert Examples.concatenated(examples, other).duplicates == 6
    assert examples.subset(examples.targets == 1).targets.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ("sklearn:iris", InputError, "sklearn:digits"),
        ("/nowhere/at/all.parquet", InputError, "cannot be opened"),
        ([], InputError, "empty"),
        (Dataset.from_dict({"text": [], "label": []}), InputError, "empty"),
        (Dataset.from_dict({"text": ["a"], "body": ["b"]}), InputError, "targets="),
        (Dataset.from_dict({"one": ["a"], "two": ["b"], "label": [0]}), InputError, "inputs="),
        (Dataset.from_dict({"text": ["a"], "label": [0.5]}), LabelError, "class index"),
        (Dataset.from_dict({"text": ["a"], "label": [-1]}), LabelError, "-1"),
        (iter([1]), InputError, "map-style"),
        ([object()], InputError, "expected"),
        (pd.DataFrame({"a": [1.0], "label": [0]}), InputError, r"datasets.Dataset.from_pandas\(df\)"),
        ([{"x": [1.0], "label": 0}, {"x": [2.0]}], InputError, "row 1: a sample has 'x' and no 'label'"),
        ([([1.0], [0]), ([2.0], [0, 1])], LabelError, r"a target is \[0\]: expected a class index"),
        ([([1.0], torch.tensor([0, 1]))], LabelError, r"a target is \[0, 1\]: expected a class index"),
        ([([1.0], 0), ([2.0], 0.5)], LabelError, "a target is 0.5: expected a class index"),
        ([([1.0], "oak"), ([2.0], [1])], LabelError, r"some targets are class names, \[1\] is none"),
    ],
)
def test_what_cannot_be_opened_is_refused(dataset, error, message):
    with pytest.raises(error, match=message):
        open_examples(dataset)


def test_what_a_tokeniser_made_is_to_be_bound_before():
    tokens = Dataset.from_dict({"input_ids": [[5, 6]], "attention_mask": [[1, 1]], "label": [0]})
    with pytest.raises(InputError, match="bind the dataset before it is tokenised"):
        open_examples(tokens)
    assert open_examples(tokens, inputs="input_ids").inputs.tolist() == [[5, 6]]


@pytest.mark.parametrize("size", [32, (0, 0), (4,), (4, 4.5), "44"])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(InputError, match="two whole numbers"):
        open_examples(table(), size=size)


def test_numbers_beside_a_text_are_not_dropped_without_a_word():
    rows = Dataset.from_dict({"a": [1.0, 2.0], "b": [3, 4], "colour": ["red", "blue"], "label": [0, 1]})
    with pytest.raises(InputError, match=r"the text 'colour' or the numbers 'a', 'b'\? Name one column \(inputs=\)"):
        open_examples(rows)
    assert open_examples(rows, inputs="colour").form == "text"
    assert open_examples(rows.remove_columns("colour")).inputs.tolist() == [[1, 3], [2, 4]]
    assert open_examples(rows.rename_column("colour", "text")).form == "text"
    assert open_examples(rows.remove_columns(["a", "b"])).form == "text"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, 2, 3], "b": [1, None, None]}, r"row 1 has no finite value for 'b' \(2 of 3 rows lack one\)"),
        ({"a": [1.0, 2.0, float("inf")]}, r"row 2 has no finite value for 'a' \(1 of 3"),
        ({"x": [[0.5, 1.0], [0.5, None], [1.0, 1.0]]}, r"row 1 has no finite value for 'x' \(1 of 3"),
        ({"x": [[1, 2], [1, 2], [None, 2]]}, r"row 2 has no value for 'x' \(1 of 3"),
        ({"x": [None, [0.5], [0.5]]}, r"row 0 has no value for 'x' \(1 of 3"),
        ({"text": [None, "a", None]}, r"row 0 has no value for 'text' \(2 of 3"),
        ({"text": ["a", "b", "c"], "label": [0, None, 1]}, r"row 1 has no target \(1 of 3"),
        ({"text": ["a", "b", "c"], "label": ["yes", "no", None]}, r"row 2 has no target \(1 of 3"),
        ({"text": ["a", "b", "c"], "label": [None, None, None]}, r"no targets: name the column"),
    ],
)
def test_what_is_missing_is_counted_and_its_first_row_named(columns, message):
    with pytest.raises(InputError, match=message):
        open_examples(Dataset.from_dict({"label": [0, 1, 0], **columns}))


def test_numbers_that_are_missing_in_pairs_are_told_by_their_row():
    with pytest.raises(InputError, match=r"row 1 has no finite value \(1 of 2 rows lack one\): fill it in, or drop"):
        open_examples([(np.zeros(2), 0), (np.array([0.0, np.nan]), 1)])


def test_examples_are_not_opened_twice():
    """What they hold is scaled for a student: its keys would be nobody's."""
    examples = open_examples("sklearn:digits", limit=20)
    for again in (open_examples, open_raw, raw_examples):
        for dataset in (examples, Subset(examples, [0]), ConcatDataset([examples, examples])):
            with pytest.raises(InputError, match="opened already"):
                again(dataset)


def test_a_picture_that_is_none_is_named():
    features = Features({"image": ImageFeature(), "label": Value("int64")})
    broken = Dataset.from_dict(
        {"image": [{"bytes": b"no picture", "path": "one.png"}], "label": [0]}, features=features
    )
    with pytest.raises(InputError, match="cannot be decoded"):
        open_examples(broken)


def test_reading_by_row_reaches_through_nested_containers():
    joined = raw_examples(ConcatDataset([Subset(table(), [5, 4]), table()]))
    values, targets = joined.read(np.array([7, 0, 2]))
    assert [np.asarray(value).tolist() for value in values] == [PICTURES[i].tolist() for i in (5, 5, 0)]
    assert targets == [LABELS[5], LABELS[5], LABELS[0]]


def test_splits_are_stratified_seeded_and_disjoint():
    digits = open_examples("sklearn:digits")
    sizes = {"noisy": 1247, "trusted": 50, "test": 500}
    parts = split_examples(digits, sizes, seed=3)
    assert {name: len(part) for name, part in parts.items()} == sizes
    check_disjoint(**parts)
    assert torch.bincount(parts["trusted"].targets).tolist() == [5] * 10
    assert parts["test"].fingerprint() == split_examples(digits, sizes, seed=3)["test"].fingerprint()
    assert parts["test"].fingerprint() != split_examples(digits, sizes, seed=4)["test"].fingerprint()


def test_copies_of_one_example_never_sit_in_two_parts():
    digits = open_examples("sklearn:digits", limit=100)
    parts = split_examples(Examples.concatenated(digits, digits), {"a": 50, "b": 50}, seed=0)
    check_disjoint(**parts)


def test_bad_splits_are_refused():
    digits = open_examples("sklearn:digits", limit=100)
    with pytest.raises(SplitError, match="at least one"):
        split_examples(digits, {"a": 0}, seed=0)
    with pytest.raises(SplitError, match="100 different"):
        split_examples(digits, {"a": 60, "b": 41}, seed=0)
    with pytest.raises(SplitError, match="share 10 examples"):
        check_disjoint(train=digits.subset(range(20)), test=digits.subset(range(10, 30)))


def test_a_class_that_runs_out_leaves_its_places_to_others():
    targets = torch.tensor([1] + [0] * 9)
    examples = Examples.of(torch.zeros(10, 1), targets, keys=content_keys(np.arange(10.0)[:, None]))
    parts = split_examples(examples, {"a": 6, "b": 4}, seed=0)
    assert [len(part) for part in parts.values()] == [6, 4]
    assert sum(int(part.targets.sum()) for part in parts.values()) == 1


@pytest.mark.timeout(20)
def test_numbers_to_be_met_are_split_as_one_class():
    targets = torch.linspace(0, 1, 10)
    examples = Examples.of(targets[:, None], targets, keys=content_keys(targets[:, None].numpy()))
    parts = split_examples(examples, {"a": 6, "b": 4}, seed=0)
    assert sorted(torch.cat([part.targets for part in parts.values()]).tolist()) == targets.tolist()
    check_disjoint(**parts)


def test_parts_whose_keys_say_nothing_about_each_other_are_refused():
    digits = open_examples("sklearn:digits", limit=20)
    salted = open_examples("sklearn:digits", limit=20, salt="a salt of sixteen")
    with pytest.raises(SplitError, match=r"train and test cannot be compared, as they are not salted alike: .* salt="):
        check_disjoint(train=digits, test=salted)
    with pytest.raises(SplitError, match="one holds numeric and the other image examples"):
        check_disjoint(train=digits, test=open_examples(table()))
    plain = [Examples.of(one.inputs, one.targets, keys=one.keys) for one in (digits.subset([0]), digits.subset([1]))]
    check_disjoint(one=plain[0], other=plain[1])


def test_raw_examples_are_opened_by_name_and_are_a_dataset_themselves():
    raw, identity = open_raw("sklearn:digits")
    digits = load_digits()
    value, target = raw[7]
    assert np.array_equal(value, digits.data[7])
    assert (target, len(raw), raw.classes) == (int(digits.target[7]), 1797, tuple("0123456789"))
    assert identity.id == "sklearn:digits"
    opened = open_examples("sklearn:digits", limit=5)
    assert np.array_equal(opened.keys, content_keys(digits.data[:5]))
    assert torch.equal(opened.inputs[:, 0].flatten(1), torch.from_numpy(digits.data[:5] / 16).float())
    for row in (-1, 1797):
        with pytest.raises(IndexError):
            raw[row]
