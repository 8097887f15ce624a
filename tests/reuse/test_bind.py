"""Binding: every weight lands on its own example, whatever became of the dataset since."""

import logging
import pickle

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from commentary_hub.artefact import Rows, load, save
from commentary_hub.commentaries import ExampleWeights, WeightNetwork, cross_entropy
from commentary_hub.data import Examples, content_keys, open_examples, target_digests
from commentary_hub.errors import BindingError, ClassesDiffer, ConflictingRows, InputError, TooFewRows, WrongDataset
from commentary_hub.manifest import DatasetBinding, Iterations, KeyScheme
from commentary_hub.reuse import at_inference, bind, bind_stream, match_rows
from commentary_hub.reuse._any_dataset import rows_attached
from commentary_hub.reuse._application import Application
from tests.reuse.bound import LOGITS, WEIGHTS, N, X, Y, stored, table_dataset


def test_weights_follow_their_examples_through_every_container(tmp_path):
    commentary = stored(tmp_path / "a")
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    base = TensorDataset(X, Y)
    for dataset, known_places in [
        (base, torch.arange(N)),
        (TensorDataset(X[order], Y[order]), order),
        (Subset(base, order[:50].tolist()), order[:50]),
        (ConcatDataset([Subset(base, [7, 3]), base]), torch.cat([torch.tensor([7, 3]), torch.arange(N)])),
        (table_dataset(), torch.arange(N)),
        (table_dataset().shuffle(seed=3).filter(lambda row: row["label"] != 2), None),
        ([{"x": x, "label": y} for x, y in zip(X, Y, strict=True)], torch.arange(N)),
    ]:
        places = known_places
        if places is None:
            index = {bytes(key): place for place, key in enumerate(content_keys(X))}
            rows = [np.asarray(row, np.float32) for row in dataset["x"]]
            places = torch.tensor([index[bytes(key)] for key in content_keys(rows)])
        binding = bind(commentary, dataset)
        assert (binding.counts.found, binding.counts.missing) == (len(dataset), 0)
        expected = WEIGHTS[places] / WEIGHTS[places].double().mean()
        assert torch.allclose(binding.weights(), expected.float(), atol=1e-6)


def test_what_is_printed_is_one_line_and_no_tensors(tmp_path):
    commentary, folder = stored(tmp_path / "a"), str(tmp_path / "a")
    assert repr(commentary) == f"StoredCommentary('rows', 'example_weights', 200 rows, {folder!r})"
    counts = "Counts(found=50, missing=0, other_target=0, leaked=0)"
    binding = bind(commentary, TensorDataset(X[:50], Y[:50]))
    assert repr(binding) == f"Binding(example_weights on 50 examples, {counts})"


@pytest.mark.parametrize("workers", [0, 2])
def test_three_changed_lines_give_the_weighted_loss(tmp_path, workers):
    train_set = bind(stored(tmp_path / "a"), TensorDataset(X, Y))
    student = torch.nn.Linear(5, 4)
    mean = WEIGHTS.double().mean().float()
    seen = 0
    for inputs, targets, rows in DataLoader(train_set, batch_size=32, shuffle=True, num_workers=workers):
        loss = train_set.loss(student, inputs, targets, rows)
        expected = (WEIGHTS[rows] / mean * cross_entropy(student(inputs), targets)).mean()
        assert torch.equal(inputs, X[rows])
        assert torch.allclose(loss, expected, atol=1e-6)
        seen += len(rows)
    assert seen == N


def test_changed_labels_and_foreign_rows_get_the_neutral_value_and_are_counted(tmp_path):
    commentary = stored(tmp_path / "a")
    labels = Y.clone()
    labels[:10] = (labels[:10] + 1) % 4
    foreign = torch.randn(20, 5)
    dataset = TensorDataset(torch.cat([X, foreign]), torch.cat([labels, torch.zeros(20, dtype=torch.int64)]))
    binding = bind(commentary, dataset, threshold=0.5)
    assert (binding.counts.found, binding.counts.missing, binding.counts.other_target) == (190, 20, 10)
    mean = WEIGHTS[10:].double().mean().float()
    neutral = torch.cat([torch.arange(10), torch.arange(200, 220)])
    assert torch.allclose(binding.weights()[neutral], WEIGHTS.mean() / mean)  # what the table gives on average
    assert torch.allclose(binding.weights()[10:200], WEIGHTS[10:] / mean)
    with pytest.raises(TooFewRows, match=r"190 of 220 examples \(20 are missing, 10 have another target") as caught:
        bind(commentary, dataset)
    assert (caught.value.found, caught.value.missing, caught.value.other_target) == (190, 20, 10)


def test_refusals_come_before_training_and_say_why(tmp_path):
    commentary = stored(tmp_path / "a", classes=tuple("abcd"))
    with pytest.raises(WrongDataset, match="none of the 5 examples"):
        bind(commentary, TensorDataset(torch.randn(5, 5), torch.zeros(5, dtype=torch.int64)))
    with pytest.raises(WrongDataset, match="holds text ones"):
        bind(commentary, [("words", 0)])
    with pytest.raises(ClassesDiffer, match="same order"):
        bind(commentary, table_dataset(names="bacd"))
    salt = "sixteen bytes and more"
    salted = stored(tmp_path / "b", salt=salt)
    with pytest.raises(BindingError, match="salt="):
        bind(salted, TensorDataset(X, Y))
    assert bind(salted, TensorDataset(X, Y), salt=salt).counts.found == N


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("ada/numbers", InputError, "'ada/numbers' is a name and no dataset: open it first"),
        (
            DatasetDict(test=table_dataset(), train=table_dataset()),
            InputError,
            r"several datasets \(test, train\): give one",
        ),
        (DataLoader(TensorDataset(X, Y), batch_size=4), InputError, "a DataLoader gives batches: give its dataset"),
        (iter([1]), InputError, "list_iterator has no length and items"),
        ([], InputError, "is empty: give one with examples"),
        ([1, 2], InputError, "a sample is of type int"),
        (
            table_dataset(names="abcde"),
            ClassesDiffer,
            "knows 4 classes, the dataset has 5; number 4 is none there and 'e' here",
        ),
        (table_dataset(names="abce"), ClassesDiffer, "has 4; number 3 is 'd' there and 'e' here"),
        (TensorDataset(X * 2, Y), WrongDataset, "none of the 200 .* as it is, its examples not resized"),
        (
            TensorDataset(X, (Y + 1) % 4),
            TooFewRows,
            "200 have another target.* give the targets that it was learned with",
        ),
        (
            TensorDataset(torch.cat([X, X + 9]), torch.cat([Y, Y])),
            TooFewRows,
            "200 are missing.* bind the part of",
        ),
    ],
)
def test_what_is_no_dataset_or_another_one_is_told_apart(tmp_path, given, error, sentence):
    with pytest.raises(error, match=sentence):
        bind(stored(tmp_path, classes=tuple("abcd")), given)


@pytest.mark.parametrize("given", ["a/folder", table_dataset(), [1], None])
def test_what_is_no_commentary_is_told_so_wherever_one_is_asked_for(given):
    for asked in (bind, bind_stream, at_inference):
        with pytest.raises(InputError, match="no stored commentary: give what load returned"):
            asked(given, TensorDataset(X, Y))


def test_positions_and_names_that_cannot_be_meant_are_refused(tmp_path):
    binding = bind(stored(tmp_path), table_dataset())
    for wrong in (-1, N):
        with pytest.raises(InputError, match=f"rows run from .* has {N} examples"):
            binding.loss(torch.nn.Linear(5, 4), X[:2], Y[:2], torch.tensor([0, wrong]))
    with pytest.raises(InputError, match="a column 'label' already"):
        binding.column("label")


def test_one_content_under_two_targets_is_told_apart_by_the_target_and_refused_without(tmp_path):
    labels = torch.tensor([0, 1])
    twice = content_keys(X[[0, 0]])
    commentary = stored(tmp_path / "a", twice, target_digests(labels), logits=torch.tensor([2.0, -2.0]))
    weights = bind(commentary, TensorDataset(X[[0, 0]], labels)).weights()
    expected = torch.sigmoid(torch.tensor([2.0, -2.0]))
    assert torch.allclose(weights, expected / expected.mean())
    with pytest.raises(ConflictingRows, match="targets="):
        bind(commentary, [X[0]])


def test_examples_that_taught_it_are_warned_of(tmp_path, caplog):
    commentary = stored(tmp_path / "a", validation_keys=content_keys(X[:7]))
    with caplog.at_level(logging.WARNING, "commentary_hub.reuse"):
        assert bind(commentary, TensorDataset(X, Y)).counts.leaked == 7
    assert "7 examples" in caplog.text


def test_past_the_recorded_steps_the_last_stage_holds_and_is_logged_once(tmp_path, caplog):
    logits = torch.stack([torch.zeros(N), LOGITS], dim=1)
    commentary = stored(tmp_path / "a", logits=logits, stages=2, iterations=Iterations(steps=2, batch_size=4))
    binding = bind(commentary, TensorDataset(X, Y))
    student, rows = torch.nn.Linear(5, 4), torch.arange(N)
    losses = [binding.loss(student, X, Y, rows).item() for _ in range(6)]
    assert losses[0] == pytest.approx(cross_entropy(student(X), Y).mean().item(), abs=1e-5)
    assert losses[1:] == pytest.approx([losses[1]] * 5)
    assert losses[0] != losses[1]
    assert caplog.text.count("last value holds") == 1


def test_past_the_recorded_steps_nothing_is_said_of_what_does_not_change_with_them(tmp_path, caplog):
    table = stored(tmp_path / "a", iterations=Iterations(steps=2, batch_size=4))
    assert bind(table, TensorDataset(X, Y)).progress_at(3) == 1
    for progress, warnings in [(False, 0), (True, 1)]:
        judge = WeightNetwork("mlp", settings={"inputs": 5, "hidden": [4]}, progress=progress)
        judged = Application([judge], [None], reduction="mean", steps=2, criterion=cross_entropy, seed=0)
        assert judged.progress_at(3) == 1
        assert caplog.text.count("last value holds") == warnings


def test_views_for_data_tools(tmp_path):
    binding = bind(stored(tmp_path / "a"), table_dataset())
    binding.column().to_parquet(tmp_path / "weighted.parquet")
    assert torch.allclose(torch.tensor(binding.column()["weight"][:]), binding.weights())
    assert binding.filter(0.25)["label"] == table_dataset().select(range(150, 200))["label"]
    drawn = torch.tensor(list(binding.sampler(20_000)))
    assert float(WEIGHTS[drawn].mean()) == pytest.approx(float((WEIGHTS**2).sum() / WEIGHTS.sum()), abs=0.01)
    batch = next(iter(DataLoader(binding.dataset.with_format("torch"), batch_size=4, shuffle=True)))
    assert torch.allclose(batch["x"], X[batch["commentary_row"]])


def test_matching_agrees_with_a_dictionary_also_on_crowded_keys():
    rng = np.random.default_rng(0)
    keys = np.zeros((20_000, 16), np.uint8)
    keys[:, [0, 7, 8, 15]] = rng.integers(0, 16, (20_000, 4))
    digests = rng.integers(0, 2, (20_000, 8)).astype(np.uint8)
    table, _ = Rows(keys[:15_000], digests[:15_000]).sort()
    match = match_rows(table.keys, table.targets, keys, digests)
    known = {(bytes(k), bytes(t)): row for row, (k, t) in enumerate(zip(table.keys, table.targets, strict=True))}
    expected = [known.get((bytes(k), bytes(t)), -1) for k, t in zip(keys, digests, strict=True)]
    assert match.rows.tolist() == expected
    contents = {key for key, _ in known}
    assert match.missing == sum(bytes(key) not in contents for key in keys)
    assert match.found + match.missing + match.other_target == 20_000


def test_examples_in_memory_bring_their_keys_along(tmp_path):
    """What `open_examples` holds is scaled; its keys are those of the raw examples, so it binds as the dataset does."""
    examples = open_examples("sklearn:digits", limit=40)
    commentary = ExampleWeights(rows=40)
    commentary.logits.data[:, 0] = torch.arange(40.0)
    binding_of = DatasetBinding(identity=examples.identity, rows=40, key=KeyScheme(form="numeric"))
    save(
        tmp_path, commentary, name="digits", dataset=binding_of, loss_reduction="mean",
        rows=Rows(examples.keys, examples.target_digests),
    )  # fmt: skip
    mixed = examples.subset(torch.arange(39, -1, -1))
    bound = bind(load(tmp_path), mixed)
    assert bound.counts.found == 40
    assert torch.allclose(
        bound.weights() / bound.weights()[0], (commentary.values() / commentary.values()[39])[:, 0].flip(0)
    )
    inputs, target, row = bound[3]
    assert (target, row) == (int(mixed.targets[3]), 3)
    assert torch.equal(inputs, mixed.inputs[3])
    salted = open_examples("sklearn:digits", limit=40, salt="a salt that its owner keeps")
    with pytest.raises(BindingError, match="not salted alike"):
        bind(load(tmp_path), salted)


@pytest.mark.parametrize("form", ["numeric", "image"])
def test_a_binding_or_a_part_of_examples_in_memory_is_bound_as_they_are(tmp_path, form):
    pictures = torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    raw = [np.uint8(picture[0] * 255) for picture in pictures.numpy()]
    keys = content_keys(X) if form == "numeric" else content_keys([Image.fromarray(one) for one in raw])
    examples = Examples.of(X if form == "numeric" else pictures, Y, keys=keys, form=form)
    commentary = stored(tmp_path, keys, form=form)
    binding = bind(commentary, examples)
    halves = random_split(examples, [150, 50], generator=torch.Generator().manual_seed(1))
    for dataset, places in [
        (binding, range(N)),
        (binding.dataset, range(N)),
        (Subset(binding, range(10)), range(10)),
        (Subset(Subset(examples, [7, 3, 9]), [2, 0]), [9, 7]),
        (bind(commentary, halves[1]), halves[1].indices),
    ]:
        again, at = bind(commentary, dataset), torch.tensor(list(places))
        assert (again.counts.found, again.counts.missing) == (len(at), 0)
        assert torch.allclose(again.weights(), (WEIGHTS[at] / WEIGHTS[at].double().mean()).float(), atol=1e-6)
        inputs, target, *_, row = again[1]
        assert torch.equal(inputs, examples.inputs[at[1]])
        assert (target, row) == (int(Y[at[1]]), 1)
        assert rows_attached(again, dataset) is again
    with pytest.raises(InputError, match="the subset is empty"):
        bind(commentary, Subset(examples, []))


def test_a_network_that_never_saw_the_salt_cannot_tell_who_taught_it(tmp_path):
    examples = open_examples("sklearn:digits", limit=40)
    salted = open_examples("sklearn:digits", limit=40, salt="a salt that its owner keeps")
    learned = KeyScheme(form="none", salted=True, salt_check=salted.salt_check)
    network = WeightNetwork("mlp", settings={"inputs": 64, "hidden": [2]})
    save(
        tmp_path, network, name="digits", loss_reduction="mean", validation_keys=salted.keys[:5],
        dataset=DatasetBinding(identity=examples.identity, rows=35, validation_rows=5, key=learned),
    )  # fmt: skip
    assert bind(load(tmp_path), salted, salt="a salt that its owner keeps").counts.leaked == 5
    with pytest.raises(BindingError, match="not salted alike"):
        bind(load(tmp_path), examples, salt="a salt that its owner keeps")


def test_networks_that_normalise_a_single_number_a_channel_are_bound(tmp_path):
    examples = open_examples("sklearn:digits", limit=6)
    network = WeightNetwork("conv4", settings={"channels": 1})
    binding = DatasetBinding(identity=examples.identity, rows=6, key=KeyScheme(form="none"))
    save(tmp_path, network, name="digits", dataset=binding, loss_reduction="mean")
    assert bind(load(tmp_path), examples).counts.found == 6


def test_one_example_with_two_weights_is_refused_and_saving_merges_them(tmp_path, monkeypatch):
    twice, digests = content_keys(X[[0, 0]]), target_digests(Y[[0, 0]])
    merged = stored(tmp_path / "a", twice, digests, logits=torch.tensor([1.0, 3.0]))
    assert merged.commentary.logits.tolist() == [[2.0]]
    monkeypatch.setattr(Rows, "sort", lambda self: (self, torch.arange(len(self.keys))))
    apart = stored(tmp_path / "b", twice, digests, logits=torch.tensor([1.0, 3.0]))
    with pytest.raises(ConflictingRows, match="equal content and target: save it again"):
        bind(apart, TensorDataset(X[:1], Y[:1]))
    same = stored(tmp_path / "c", twice, digests, logits=torch.tensor([3.0, 3.0]))
    assert bind(same, TensorDataset(X[:1], Y[:1])).counts.found == 1


def test_more_examples_than_torch_can_draw_among_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("commentary_hub.reuse._binding._MOST_DRAWN", 100)
    with pytest.raises(InputError, match="at most 100 examples, these are 200"):
        bind(stored(tmp_path / "a"), TensorDataset(X, Y)).sampler()


def test_positions_that_an_earlier_binding_left_are_replaced(tmp_path):
    commentary = stored(tmp_path / "a")
    shuffled = bind(commentary, table_dataset()).dataset.shuffle(seed=3)
    plain = bind(commentary, shuffled.remove_columns("commentary_row"))
    again = bind(commentary, shuffled)
    assert torch.equal(again.weights(), plain.weights())
    for holder in (again, again.dataset, rows_attached(again, shuffled)):
        assert [holder[place]["commentary_row"] for place in (0, 1, N - 1)] == [0, 1, N - 1]
    made = again.dataset.map(lambda row: row)
    assert rows_attached(again, made) is made


def test_positions_are_no_numbers_of_a_table(tmp_path):
    numbers = Dataset.from_dict({"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "label": Y.tolist()})
    keys = content_keys(list(X[:, :2].double().numpy()))
    assert bind(stored(tmp_path / "a", keys), bind(stored(tmp_path / "b", keys), numbers).dataset).counts.found == N


class Pictures:
    """A dataset with a transform that is called with keywords, or whose result it works on."""

    def __init__(self, transform, use):
        self.transform, self.use = transform, use

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.use(self, X[index].numpy()), int(Y[index])


def twice(image):
    return {"image": 2 * image}


def test_a_binding_is_seen_past_to_the_raw_examples(tmp_path):
    commentary = stored(tmp_path / "a")
    dataset = Pictures(twice, lambda self, x: self.transform(image=x)["image"])
    first = bind(commentary, dataset)
    assert torch.equal(torch.from_numpy(first[3][0]), 2 * X[3])
    for wrapped in (first, first.dataset, Subset(first, range(N))):
        assert torch.equal(bind(commentary, wrapped).weights(), first.weights())


def test_a_dataset_that_needs_its_transform_is_told_from_others(tmp_path):
    dataset = Pictures(torch.from_numpy, lambda self, x: self.transform(x).unsqueeze(0)[0])
    with pytest.raises(InputError, match=r"Pictures works on what its transform makes .* bind the dataset without"):
        bind(stored(tmp_path / "a"), dataset)


class Epochs(TensorDataset):
    def set_epoch(self, epoch):
        self.epoch = epoch


def test_a_dataset_is_told_the_epoch_through_its_binding(tmp_path):
    binding = bind(stored(tmp_path / "a"), Epochs(X, Y))
    for number, holder in enumerate((binding, binding.dataset, pickle.loads(pickle.dumps(binding)))):
        holder.set_epoch(number)
        assert holder.source.epoch == number
    assert not hasattr(bind(stored(tmp_path / "b"), TensorDataset(X, Y)), "set_epoch")
    with pytest.raises(AttributeError, match="no attribute 'weight'"):
        _ = binding.weight


def test_samples_of_a_binding_carry_their_rows_wherever_they_went(tmp_path):
    binding = bind(stored(tmp_path / "a"), TensorDataset(X, Y))
    for made in (binding, binding.dataset, Subset(binding, [4, 5]), Subset(Subset(binding.dataset, [4, 5]), [1])):
        assert rows_attached(binding, made) is made
    with pytest.raises(InputError, match=r"make it from binding\.dataset"):
        rows_attached(binding, Subset(TensorDataset(X, Y), [4, 5]))
