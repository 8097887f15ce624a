"""Every weight lands on its own example, whatever file, container, order or encoding the example comes in."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, concatenate_datasets
from datasets import Image as ImageFeature
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, Subset
from torchvision.datasets import MNIST, ImageFolder
from torchvision.transforms import v2

from commentary_hub.artefact import load
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import content_keys, open_examples, split_examples, target_digests
from commentary_hub.learning import SGD, Student, Unrolled, learn
from commentary_hub.networks import network
from commentary_hub.recipes import save
from commentary_hub.reuse import bind
from tests.data.idx import write_idx
from tests.reuse.bound import stored

SIZE = 60
PICTURES = np.random.default_rng(0).integers(0, 256, (SIZE, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(SIZE) % 3
LOGITS = torch.linspace(-3, 3, SIZE)
EXPECTED = torch.sigmoid(LOGITS) / torch.sigmoid(LOGITS).double().mean().float()


def encoded(picture, kind, **settings):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **settings)
    return {"bytes": buffer.getvalue(), "path": None}


def parquet_like(kind="PNG", **settings):
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=["ant", "bee", "cat"])})
    rows = {"img": [encoded(picture, kind, **settings) for picture in PICTURES], "label": LABELS.tolist()}
    return Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def commentary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    return stored(folder, content_keys(PICTURES), target_digests(LABELS), logits=LOGITS, form="image")


@pytest.mark.parametrize(
    ("kind", "settings"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_lossless_encodings_are_one_dataset(commentary, kind, settings):
    assert torch.allclose(bind(commentary, parquet_like(kind, **settings)).weights(), EXPECTED, atol=1e-6)


def test_files_in_folders_with_a_transform_are_that_dataset_too(commentary, tmp_path):
    for place, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        folder = tmp_path / ["ant", "bee", "cat"][label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{place:03}.png")
    transform = v2.Compose([v2.RandomRotation(90), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    dataset = ImageFolder(tmp_path, transform=transform)
    places = [int(Path(path).stem) for path, _ in dataset.samples]
    assert torch.allclose(bind(commentary, dataset).weights(), EXPECTED[places], atol=1e-6)


class Mapped:
    """A user's own map-style dataset, without a base class, whose augmentation is a transform attribute."""

    def __init__(self, places):
        self.places = places
        self.transform = lambda picture: picture[::-1].copy()

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        if index >= len(self.places):
            raise IndexError(index)
        place = self.places[index]
        return self.transform(PICTURES[place]), int(LABELS[place])


def test_shuffled_filtered_joined_and_added_to(commentary):
    table = parquet_like()
    rng = np.random.default_rng(1)
    order = rng.permutation(SIZE)
    foreign = Dataset.from_dict(
        {"img": [encoded(255 - picture, "PNG") for picture in PICTURES[:10]], "label": [0] * 10},
        features=table.features,
    )
    kept = order[LABELS[order] != 1]
    for dataset, places in [
        (table.select(order), order),
        (table.select(order).filter(lambda row: row["label"] != 1), kept),
        (table.select(order).flatten_indices(), order),
        (concatenate_datasets([table.select(order), table]), np.concatenate([order, np.arange(SIZE)])),
        (Mapped(order), order),
        (Subset(Mapped(order), [5, 1]), order[[5, 1]]),
        (ConcatDataset([Mapped(order), table]), np.concatenate([order, np.arange(SIZE)])),
    ]:
        binding = bind(commentary, dataset)
        assert (binding.counts.found, binding.counts.missing) == (len(places), 0)
        weights = torch.sigmoid(LOGITS)[places]
        assert torch.allclose(binding.weights(), weights / weights.double().mean().float(), atol=1e-6)
    more = bind(commentary, concatenate_datasets([foreign, table]), threshold=0.8)
    assert (more.counts.found, more.counts.missing) == (SIZE, 10)
    assert torch.allclose(more.weights()[10:], EXPECTED, atol=1e-6)
    assert torch.allclose(more.weights()[:10], torch.tensor(0.5) / torch.sigmoid(LOGITS).mean(), atol=1e-6)


def transformed(batch):
    pixels = [torch.from_numpy(np.array(picture)).float() for picture in batch["img"]]
    return {"pixels": pixels, "label": batch["label"], "commentary_row": batch["commentary_row"]}


def test_a_table_goes_on_being_transformed_after_it_was_bound(commentary):
    binding = bind(commentary, parquet_like().shuffle(seed=4))
    derived = binding.dataset.filter(lambda row: row["label"] == 2).shuffle(seed=0).with_transform(transformed)
    (batch,) = DataLoader(derived, batch_size=SIZE)
    known = {PICTURES[place].astype(np.float32).tobytes(): place for place in range(SIZE)}
    places = [known[pixels.numpy().tobytes()] for pixels in batch["pixels"]]
    assert torch.allclose(binding.weights()[batch["commentary_row"]], EXPECTED[places], atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_of_a_distributed_run_share_the_examples(commentary, workers):
    binding = bind(commentary, Mapped(np.arange(SIZE)[::-1]))
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(binding, num_replicas=2, rank=rank, seed=7)
        for pictures, labels, rows in DataLoader(binding, batch_size=7, sampler=sampler, num_workers=workers):
            places = SIZE - 1 - rows
            assert np.array_equal(pictures.numpy()[:, ::-1], PICTURES[places])
            assert np.array_equal(labels.numpy(), LABELS[places])
            assert torch.allclose(binding.weights()[rows], EXPECTED[places], atol=1e-6)
            seen += rows.tolist()
    assert sorted(seen) == list(range(SIZE))


def generated(folder):
    """A parquet file of six hundred blobs, one place for each of ten classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 10
    rows, columns = np.mgrid[:28, :28]
    places = np.stack([6 + 8 * (labels // 4), 4 + 6 * (labels % 4)], axis=1) + rng.normal(0, 1, (600, 2))
    distance = (rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2
    pictures = (255 * np.exp(-distance / 8) * rng.uniform(0.6, 1, (600, 1, 1))).astype(np.uint8)
    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=10)})
    table = Dataset.from_dict(
        {"image": [Image.fromarray(picture) for picture in pictures], "label": labels.tolist()}, features=features
    )
    table.to_parquet(folder / "blobs.parquet")
    return folder / "blobs.parquet"


def mnist(_folder):
    root = Path(os.environ.get("COMMENTARY_HUB_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
    file = root / "ylecun/mnist/mnist/test-00000-of-00001.parquet"
    if not file.is_file():
        pytest.skip(f"no {file}: set COMMENTARY_HUB_TEST_DATA")
    return file


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("source", [generated, pytest.param(mnist, marks=pytest.mark.real_data)])
def test_learned_on_parquet_bound_to_torchvisions_own_format(source, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    examples = open_examples(source(tmp_path))
    parts = split_examples(examples, {"train": len(examples) * 9 // 10, "trusted": len(examples) // 20}, seed=0)
    train = parts["train"]
    table = ExampleWeights(rows=len(train))
    torch.nn.init.normal_(table.logits)
    learned = learn(
        table,
        Student("mlp", lambda: network("mlp", inputs=784, hidden=[8], classes=10)),
        train=train,
        validation=parts["trusted"],
        method=Unrolled(),
        inner=SGD(lr=0.1),
        inner_steps=4,
        batch_size=64,
        outer_steps=2,
        progress=False,
    )
    save(tmp_path / "a", learned, name="blobs")
    weights = learned.commentary.values()[:, 0]

    rng = np.random.default_rng(0)
    kept = rng.permutation(len(train))[: len(train) * 9 // 10]
    foreign = rng.integers(0, 256, (len(train) // 10, 28, 28), dtype=np.uint8)
    labels = train.targets[kept].numpy().copy()
    corrected = rng.choice(len(kept), len(kept) // 20, replace=False)
    labels[corrected] = (labels[corrected] + 1) % 10
    pictures = (train.inputs[kept, 0] * 255).round().byte().numpy()
    shuffle = rng.permutation(len(kept) + len(foreign))
    all_labels = np.concatenate([labels, np.zeros(len(foreign), labels.dtype)])
    write_idx(tmp_path, np.concatenate([pictures, foreign])[shuffle], all_labels[shuffle])

    dataset = MNIST(tmp_path, transform=lambda picture: picture.rotate(30))
    binding = bind(load(tmp_path / "a"), dataset, threshold=0.8)
    assert binding.counts.found == len(kept) - len(corrected)
    assert (binding.counts.missing, binding.counts.other_target) == (len(foreign), len(corrected))
    assert binding.counts.leaked == 0
    expected = torch.full((len(shuffle),), float(weights.mean()))  # of examples without a row: what all have on average
    expected[: len(kept)] = weights[kept]
    expected[corrected] = weights.mean()
    mean = expected[np.setdiff1d(np.arange(len(kept)), corrected)].double().mean().float()
    assert torch.allclose(binding.weights(), expected[shuffle] / mean, atol=1e-5)
    assert len(torch.unique(weights)) > 0.99 * len(train)
