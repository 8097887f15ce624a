"""Folders of pictures: no class and no file is taken for a split, and nothing is left out without a word."""

import gzip

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from torchvision.datasets import ImageFolder

from commentary_hub.data import content_key, open_examples
from commentary_hub.errors import InputError

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of these pictures, and says which key each of them has."""

    def make(*names):
        keys = {}
        for name in names:
            path = tmp_path / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(picture).save(path, format="png")
            keys[content_key(picture)] = path.parent.name
        return tmp_path / "pictures", keys

    return make


def classes_by_key(examples):
    return {bytes(key): examples.classes[label] for key, label in zip(examples.keys, examples.targets, strict=True)}


@pytest.mark.parametrize(
    "names",
    [
        ["oak/a_train_1.png", "oak/b.png", "elm/test.png"],
        ["train/a.png", "plane/b.png", "plane/c.PNG"],
        ["test/a.png", "exam/b.png"],
        ["oak/a.png", "oak/b.png"],
    ],
    ids=["a split in a file's name", "a class called train", "a class called test", "one class"],
)
def test_a_folder_for_each_class_is_one_split_whatever_its_names_are(folder, names):
    place, keys = folder(*names)
    (place / "notes.txt").write_text("not a picture")
    (place / ".hidden").mkdir()
    (place / ".hidden" / "d.png").write_bytes(b"")
    examples = open_examples(place)
    assert classes_by_key(examples) == keys
    assert examples.classes == tuple(sorted(set(keys.values())))
    with pytest.raises(InputError, match="Unknown split"):
        open_examples(place, split="test")
    with pytest.raises(InputError, match="nope"):
        open_examples(place, config="nope")


def test_folders_named_after_splits_are_these_splits(folder):
    place, keys = folder("train/oak/a.png", "train/test/b.png", "train/elm/test.png", "valid-1/oak/d.png")
    train, validation = open_examples(place), open_examples(place, split="validation")
    assert classes_by_key(train) | classes_by_key(validation) == keys
    assert (len(train), len(validation)) == (3, 1)
    assert train.classes == validation.classes == ("elm", "oak", "test")
    assert len(open_examples(place, split="train[:2]")) == 2


def test_metadata_says_what_pictures_are(folder):
    place, keys = folder("train/a.png", "train/b.png", "test/c.png")
    (place / "train" / "metadata.jsonl").write_text('{"file_name": "a.png", "label": 3}\n')
    (place / "test" / "metadata.jsonl").write_text('{"file_name": "c.png", "label": 5}\n')
    train, test = open_examples(place), open_examples(place, split="test")
    assert (train.targets.tolist(), test.targets.tolist()) == ([3], [5])
    assert {bytes(train.keys[0]), bytes(test.keys[0])} < set(keys)


def test_a_card_says_which_files_are_which_split(folder):
    place, _ = folder("oak/train_1.png", "elm/b.png", "oak/more.png")
    files = "- config_name: small\n  data_files:\n  - split: train\n    path: ['oak/more.png', 'elm/b.png']\n"
    (place / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    assert len(open_examples(place, config="small")) == 2


def test_pictures_that_are_in_no_split_are_named_by_their_number(folder):
    place, _ = folder("train/oak/a.png", "train/elm/b.png", "more/oak/c.png")
    with pytest.raises(InputError, match=r"holds 3 pictures, its splits another number \(train 2\)"):
        open_examples(place)


@pytest.mark.parametrize("name", ["data.parquet", "train.jsonl", "train.csv.gz", "train.tsv"])
def test_pictures_beside_a_table_are_figures(folder, name):
    place, _ = folder("figures/1.png", "figures/2.png", "figures/3.png")
    rows = Dataset.from_dict({"text": ["one two", "three", "four"], "label": [1, 0, 1]})
    if name.endswith("parquet"):
        rows.to_parquet(place / name)
    elif name.endswith("jsonl"):
        rows.to_json(place / name)
    else:
        written = rows.to_pandas().to_csv(sep="\t" if name.endswith("tsv") else ",", index=False).encode()
        (place / name).write_bytes(gzip.compress(written) if name.endswith("gz") else written)
    for copy in range(2):  # `datasets` reads what there is more of
        (place / f"{copy}-{name}").write_bytes((place / name).read_bytes())
        (place / "figures" / f"{copy + 1}.png").unlink()
    examples = open_examples(place)
    assert (examples.form, sorted(set(examples.targets.tolist()))) == ("text", [0, 1])


def test_a_picture_beside_the_splits_shows_the_dataset_to_people(folder):
    place, keys = folder("train/oak/a.png", "train/elm/b.png", "val/oak/c.png", "preview.png")
    del keys[next(key for key, name in keys.items() if name == "pictures")]
    parts = [open_examples(place, split=split) for split in ("train", "validation")]
    assert classes_by_key(parts[0]) | classes_by_key(parts[1]) == keys


@pytest.mark.parametrize("above", ["", "train/"])
def test_pictures_stand_in_the_order_of_torchvisions_folders(folder, above):
    names = ["cat/b.png", "cat/a.png", "cat-big/c.png", "cat big/d.png", "Dog/e.png"]
    place, _ = folder(*(above + name for name in names))
    there = ImageFolder(place / above)
    own = open_examples(place)
    assert own.classes == tuple(there.classes)
    assert own.targets.tolist() == there.targets
    assert np.array_equal(own.keys, open_examples(there).keys)
