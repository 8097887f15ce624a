"""The keys of a whole dataset: the same however they are computed, computed once, and never another dataset's."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import MNIST, ImageFolder

from commentary_hub.data import _keyed as keyed
from commentary_hub.data import cache_folder, content_keys, dataset_keys, keep, raw_examples, target_digests
from commentary_hub.errors import InputError
from tests.data.idx import write_idx

N = 2500
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMENTARY_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/keys"


class Counting:
    """A raw dataset that counts how often it is read."""

    def __init__(self, dataset):
        self.raw = raw_examples(dataset)
        self.reads = 0
        read = self.raw.read

        def counted(rows):
            self.reads += 1
            return read(rows)

        self.raw.read = counted


def texts(words="abcd", labels=None):
    names = ["no", "yes"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"text": list(words), "label": labels or [0] * len(words)}, features=features)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_processes_give_the_keys_that_one_gives(workers, monkeypatch):
    monkeypatch.setattr(keyed, "_WORTH_WORKERS_S", 0.0)
    done = []
    keys, digests = dataset_keys(raw_examples(TensorDataset(X, Y)), workers=workers, progress=done.append)
    assert np.array_equal(keys, content_keys(X))
    assert np.array_equal(digests, target_digests(Y))
    assert (sum(done), max(done)) == (N, 1024)


def test_a_refusal_in_a_process_keeps_its_words(monkeypatch):
    monkeypatch.setattr(keyed, "_WORTH_WORKERS_S", 0.0)
    samples = [(x.numpy(), 0) for x in X]
    samples[2000] = (object(), 0)
    with pytest.raises(InputError, match=r"^an example of type object has no content key"):
        dataset_keys(raw_examples(samples), workers=2)


def test_the_second_time_nothing_is_read(own_cache):
    first, second = Counting(texts()), Counting(texts())
    keys, digests = dataset_keys(first.raw)
    again, digests_again = dataset_keys(second.raw)
    assert (first.reads, second.reads) == (2, 0)
    assert np.array_equal(keys, again)
    assert np.array_equal(digests, digests_again)
    assert len(list(own_cache.iterdir())) == 1
    assert Counting(texts()).raw.identity == first.raw.identity


def test_whatever_changes_the_keys_misses_the_cache(tmp_path, own_cache):
    base = texts()
    folder = tmp_path / "pictures/cat"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "one.png")
    before = raw_examples(ImageFolder(folder.parent)).identity
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "one.png")
    os.utime(folder / "one.png", ns=(1, 1))
    identities = [
        raw_examples(dataset).identity
        for dataset in (
            base,
            texts("abce"),
            texts(labels=[0, 0, 0, 1]),
            base.select([1, 0, 2, 3]),
            base.map(lambda row: {"text": row["text"] * 2}),
            Subset(base, [0, 1]),
            Subset(base, [1, 0]),
            ConcatDataset([base, base]),
            ImageFolder(folder.parent),
        )
    ]
    assert None not in identities
    assert len({*identities, before}) == len(identities) + 1
    salt = "a salt of sixteen"
    strings = Dataset.from_dict({"text": ["a", "b"], "label": ["no", "yes"]})
    tables = [dataset_keys(raw_examples(strings)), dataset_keys(raw_examples(strings), salt=salt)]
    tables += [dataset_keys(raw_examples(strings), classes=names) for names in (("no", "yes"), ("yes", "no"))]
    assert len({(keys.tobytes(), digests.tobytes()) for keys, digests in tables}) == 4
    assert len(list(own_cache.iterdir())) == 4


def test_pictures_that_a_table_only_names_are_known_by_their_files(tmp_path, monkeypatch):
    """The table's fingerprint stays the same when a file is written anew."""
    monkeypatch.chdir(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    for number in (0, 1):
        Image.fromarray(pictures[number]).save(f"{number}.png")
    rows = {"image": ["0.png", str(tmp_path / "1.png"), None]}
    table = Dataset.from_dict(rows).cast_column("image", ImageFeature()).select([0, 1])
    before = raw_examples(table)
    assert before.identity is not None
    assert before.identity == raw_examples(table).identity
    assert np.array_equal(dataset_keys(before)[0], content_keys(pictures[:2]))
    Image.fromarray(pictures[2]).save("1.png")
    os.utime("1.png", ns=(1, 1))
    after = raw_examples(table)
    assert after.identity != before.identity
    assert np.array_equal(dataset_keys(after)[0], content_keys(pictures[[0, 2]]))
    (tmp_path / "1.png").unlink()
    assert raw_examples(table).identity is None


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), [(x, 0) for x in X[:3]], Subset(TensorDataset(X, Y), [1])])
def test_what_does_not_say_what_it_holds_is_not_cached(dataset, own_cache):
    assert raw_examples(dataset).identity is None
    dataset_keys(raw_examples(dataset))
    assert not own_cache.exists()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_torchvisions_datasets_in_memory_are_known_by_what_they_hold(tmp_path, own_cache):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    write_idx(tmp_path, pictures, np.arange(40) % 10)
    first, second = Counting(MNIST(tmp_path)), Counting(MNIST(tmp_path, transform=np.asarray))
    keys, _ = dataset_keys(first.raw)
    again, _ = dataset_keys(second.raw)
    assert (first.reads, second.reads) == (2, 0)
    assert np.array_equal(keys, again)
    assert np.array_equal(keys, content_keys(pictures))
    changed = MNIST(tmp_path)
    changed.targets[0] += 1
    darker = MNIST(tmp_path)
    darker.data[3] = 0
    subclass = type("Mine", (MNIST,), {"raw_folder": MNIST(tmp_path).raw_folder})(tmp_path)
    identities = [raw_examples(dataset).identity for dataset in (MNIST(tmp_path), changed, darker)]
    assert len(set(identities)) == 3
    assert raw_examples(subclass).identity is None


def test_a_loader_of_ones_own_is_not_trusted_to_stay_the_same(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "cat/one.png")
    assert raw_examples(ImageFolder(tmp_path)).identity is not None
    assert raw_examples(ImageFolder(tmp_path, loader=lambda path: Image.open(path).convert("L"))).identity is None


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_computed_again(own_cache, damage):
    keys, _ = dataset_keys(raw_examples(texts()))
    keys = keys.copy()
    (file,) = own_cache.iterdir()
    file.write_bytes(file.read_bytes()[:-5] if damage is None else damage)
    again, _ = dataset_keys(raw_examples(texts()))
    assert np.array_equal(keys, again)
    assert np.load(file).shape == (4, 24)


def test_a_dataset_without_targets_has_no_digests(own_cache):
    unlabelled = Dataset.from_dict({"text": ["a", "b"]})
    for _ in range(2):
        keys, digests = dataset_keys(raw_examples(unlabelled))
        assert (keys.shape, digests) == ((2, 16), None)


def test_many_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "cache/room/file"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda content: keep(path, lambda file: file.write(content)), contents * 4))
    assert path.read_bytes() in contents
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_the_cache_keeps_to_its_limit_and_forgets_the_least_recently_used(monkeypatch):
    monkeypatch.setenv("COMMENTARY_HUB_CACHE_BYTES", "2500")
    folder = cache_folder("room")
    for number in range(4):
        assert keep(folder / str(number), lambda file: file.write(bytes(1000))) is True
        os.utime(folder / str(number), (number, number))
    assert sorted(file.name for file in folder.iterdir()) == ["2", "3"]
    assert keep(folder / "large", lambda file: file.write(bytes(3000))) is False
    assert sorted(file.name for file in folder.iterdir()) == ["2", "3"]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("COMMENTARY_HUB_CACHE", str(tmp_path / "a file"))
    keys, _ = dataset_keys(raw_examples(texts()))
    assert len(keys) == 4


def test_pictures_decoded_by_two_processes(monkeypatch):
    monkeypatch.setattr(keyed, "_WORTH_WORKERS_S", 0.0)
    pictures = np.random.default_rng(0).integers(0, 256, (1500, 4, 4, 3), dtype=np.uint8)
    features = Features({"image": ImageFeature(), "label": Value("int64")})
    table = Dataset.from_dict({"image": [Image.fromarray(p) for p in pictures], "label": [0] * 1500}, features=features)
    keys, _ = dataset_keys(raw_examples(table), workers=2)
    assert np.array_equal(keys, content_keys(pictures))
