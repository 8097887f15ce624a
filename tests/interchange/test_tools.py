"""Scores of other tools, from files that the tools wrote, land on their own examples."""

import hashlib
import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch.utils.data import TensorDataset

from commentary_hub.artefact import load
from commentary_hub.data import open_examples
from commentary_hub.errors import InputError, ShapeError
from commentary_hub.interchange import TOOLS, export, import_scores, read_scores, weights_of
from commentary_hub.reuse import bind
from tests.interchange.scored import DIGITS, SIZE, WRITTEN, X, Y, bound_weights, check, dataset, ranks


@pytest.mark.filterwarnings("ignore")
def test_what_cleanlab_wrote(tmp_path, capsys):
    from cleanlab import Datalab

    model = LogisticRegression(max_iter=200)
    labels = Y.copy() % 3
    probabilities = cross_val_predict(model, X, labels, cv=3, method="predict_proba")
    lab = Datalab(data={"X": X, "label": labels}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=probabilities, issue_types={"label": {}, "class_imbalance": {}})
    lab.save(str(tmp_path / "lab"))
    lab.get_issues("label").to_parquet(tmp_path / "issues.parquet")
    expected = lab.get_issues("label")["label_score"].to_numpy()
    for number, path in enumerate([tmp_path / "lab", tmp_path / "lab/issues.csv", tmp_path / "issues.parquet"]):
        scores = read_scores("cleanlab", path)
        assert (scores.measure, scores.useful, scores.unit) == ("label_score", True, True)
        import_scores(tmp_path / str(number), scores, dataset(), name="from-cleanlab")
        check(tmp_path / str(number), np.clip(expected, 1e-4, 1 - 1e-4))
    other = read_scores("cleanlab", tmp_path / "lab", measure="class_imbalance_score")
    assert other.values.tolist() == lab.get_issues("class_imbalance")["class_imbalance_score"].tolist()
    with pytest.raises(InputError, match="no 'outlier_score'"):
        read_scores("cleanlab", tmp_path / "lab", measure="outlier_score")


@pytest.mark.filterwarnings("ignore")
def test_the_label_issues_of_cleanlearning_and_its_qualities_alone_are_scores(tmp_path):
    from cleanlab.classification import CleanLearning

    issues = CleanLearning(LogisticRegression(max_iter=200), cv_n_folds=3).find_label_issues(X, Y % 3)
    quality = issues["label_quality"].to_numpy()
    issues.to_csv(tmp_path / "issues.csv")
    np.save(tmp_path / "quality.npy", quality)
    scores = read_scores("cleanlab", tmp_path / "issues.csv")
    assert (scores.measure, scores.useful, scores.unit) == ("label_quality", True, True)
    import_scores(tmp_path / "a", scores, dataset(), name="from-cleanlab")
    check(tmp_path / "a", np.clip(quality, 1e-4, 1 - 1e-4))
    alone = read_scores("npz", tmp_path / "quality.npy")
    assert (alone.measure, alone.values.tolist()) == ("quality", quality.tolist())


def test_what_aum_wrote(tmp_path):
    lines = [line.split(",") for line in (WRITTEN / "aum_values.csv").read_text().splitlines()[1:]]
    margins = np.empty(SIZE)
    margins[[int(place) for place, _ in lines]] = [float(value) for _, value in lines]
    import_scores(tmp_path, read_scores("aum", WRITTEN / "aum_values.csv"), dataset(), name="from-aum")
    check(tmp_path, ranks(margins))


@pytest.mark.parametrize(("measure", "scale"), [(None, "share"), ("variability", "rank"), ("forgetfulness", "rank")])
def test_what_dataset_cartography_wrote(tmp_path, measure, scale):
    records = [json.loads(line) for line in (WRITTEN / "td_metrics.jsonl").read_text().splitlines()]
    values = np.empty(SIZE)
    values[[record["guid"] for record in records]] = [record[measure or "confidence"] for record in records]
    scores = read_scores("cartography", WRITTEN / "td_metrics.jsonl", measure=measure)
    import_scores(tmp_path, scores, dataset(), name="from-cartography")
    if measure == "forgetfulness":
        order = np.argsort(bound_weights(tmp_path, np.arange(SIZE)))
        assert (np.diff(values[order]) <= 0).all()
    else:
        check(tmp_path, values if scale == "share" else ranks(values))


@pytest.mark.parametrize("measure", [None, "2"])
def test_what_trak_wrote(tmp_path, measure):
    scores = read_scores("trak", WRITTEN / "trak_digits.mmap", measure=measure)
    table = np.load(WRITTEN / "trak_digits.mmap")
    import_scores(tmp_path, scores, dataset(), name="from-trak")
    check(tmp_path, ranks(table.mean(1, dtype=np.float64) if measure is None else table[:, 2]))


def test_difficulty_scores_in_an_archive_need_to_be_told_what_high_means(tmp_path):
    difficulty = np.linspace(3, -3, SIZE)
    np.savez(tmp_path / "difficulty.npz", scores=difficulty, labels=Y, names=np.zeros((SIZE, 2)))
    scores = read_scores("npz", tmp_path / "difficulty.npz")
    with pytest.raises(InputError, match=r"high value of 'scores' mark a good or a bad .* --harmful"):
        import_scores(tmp_path / "a", scores, dataset(), name="difficulty")
    import_scores(tmp_path / "a", scores, dataset(), name="difficulty", useful=False)
    check(tmp_path / "a", ranks(-difficulty))
    with pytest.raises(InputError, match=r"runs from -3 to 3 .*scale='rank'"):
        weights_of(scores, useful=True, scale="share")
    np.savez(tmp_path / "two.npz", a=difficulty, b=difficulty)
    with pytest.raises(InputError, match="a, b: choose one"):
        read_scores("npz", tmp_path / "two.npz")
    assert read_scores("npz", tmp_path / "two.npz", measure="b").values.tolist() == difficulty.tolist()


def named_digits(path, names):
    Dataset.from_dict({"x": X.tolist(), "label": names}).to_parquet(path)
    return path


def test_names_as_labels_are_numbered_as_the_opened_dataset_numbers_them(tmp_path):
    names = [f"digit {number}" for number in Y]
    path = named_digits(tmp_path / "named.parquet", names)
    import_scores(tmp_path / "a", read_scores("aum", WRITTEN / "aum_values.csv"), path, name="named", inputs="x")
    stored, opened = load(tmp_path / "a"), open_examples(path, inputs="x")
    assert stored.manifest.dataset.classes == opened.classes == tuple(sorted(set(names)))
    assert bind(stored, opened).counts.found == SIZE
    assert bind(stored, Dataset.from_parquet(str(path)), inputs="x").counts.found == SIZE


def test_labels_that_are_long_texts_stay_texts_and_half_of_names_are_refused(tmp_path):
    path = named_digits(tmp_path / "texts.parquet", [f"{number} " * 3000 for number in range(SIZE)])
    scores = read_scores("aum", WRITTEN / "aum_values.csv")
    import_scores(tmp_path / "a", scores, path, name="texts", inputs="x")
    assert load(tmp_path / "a").manifest.dataset.classes is None
    assert bind(load(tmp_path / "a"), Dataset.from_parquet(str(path)), inputs="x").counts.found == SIZE
    path = named_digits(tmp_path / "half.parquet", ["cat", None] * (SIZE // 2))
    with pytest.raises(InputError, match=r"row 1 has no target \(20 of 40 rows lack one\)"):
        import_scores(tmp_path / "b", scores, path, name="half", inputs="x")
    with pytest.raises(InputError, match=r"row 1 has no target \(20 of 40 rows lack one\)"):
        open_examples(path, inputs="x")


def test_a_name_that_no_commentary_can_have_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match="'my folder' is no name of a commentary"):
        import_scores(tmp_path, read_scores("aum", WRITTEN / "aum_values.csv"), "no/dataset", name="my folder")


def test_the_origin_is_recorded_and_survives(tmp_path):
    file = WRITTEN / "aum_values.csv"
    import_scores(tmp_path, read_scores("aum", file), dataset(), name="from-aum", known_as="sklearn/digits")
    manifest = load(tmp_path).manifest
    (parent,) = manifest.parents
    assert (parent.reference, parent.origin) == ("aum_values.csv", "aum aum")
    assert parent.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (manifest.dataset.identity.id, manifest.dataset.rows, manifest.kind) == (
        "sklearn/digits",
        40,
        "example_weights",
    )


def test_names_of_examples_find_them_in_any_order(tmp_path):
    names = [f"digit-{number}" for number in range(SIZE)]
    order = np.random.default_rng(1).permutation(SIZE)[:30]
    lines = [f"{names[place]},{place}" for place in order]
    (tmp_path / "aum_values.csv").write_text("\n".join(["sample_id,aum", *lines]) + "\n")
    scores = read_scores("aum", tmp_path / "aum_values.csv")
    features = Features({"x": List(Value("float64")), "label": ClassLabel(num_classes=10), "uid": Value("string")})
    table = Dataset.from_dict({"x": X.tolist(), "label": Y.tolist(), "uid": names}, features=features)
    with pytest.raises(InputError, match="ids="):
        import_scores(tmp_path / "a", scores, table, name="named", inputs="x")
    with pytest.raises(InputError, match="'name'"):
        import_scores(tmp_path / "a", scores, table, name="named", ids="name", inputs="x")
    with pytest.raises(InputError, match="no columns"):
        import_scores(tmp_path / "a", scores, dataset(), name="named", ids="uid")
    table.to_parquet(tmp_path / "table.parquet")
    import_scores(tmp_path / "b", scores, tmp_path / "table.parquet", name="named", ids="uid", inputs="x")
    import_scores(tmp_path / "a", scores, table, name="named", ids="uid", inputs="x")
    assert load(tmp_path / "a").tensor_digest == load(tmp_path / "b").tensor_digest
    binding = bind(load(tmp_path / "a"), dataset(), threshold=0.7)
    assert (binding.counts.found, binding.counts.missing) == (30, 10)
    assert sorted(np.flatnonzero(binding.rows >= 0).tolist()) == sorted(order.tolist())
    found = np.sort(order)
    assert (np.diff(binding.weights().numpy()[found]) > 0).all()


def test_files_that_do_not_fit_are_refused_with_one_sentence(tmp_path):
    aum = read_scores("aum", WRITTEN / "aum_values.csv")
    np.savez(tmp_path / "some.npz", scores=np.arange(20.0))
    np.savez(tmp_path / "none.npz", scores=np.empty(0))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    some = read_scores("npz", tmp_path / "some.npz")
    with pytest.raises(
        InputError, match="scores 20 examples by their order, the dataset has 40: give the dataset, and"
    ):
        import_scores(tmp_path / "a", some, dataset(), name="a", useful=True)
    with pytest.raises(InputError, match="scale is 'ranks': choose 'share' or 'rank'"):
        weights_of(some, useful=True, scale="ranks")
    with pytest.raises(InputError, match="0 to 39, the dataset has 20"):
        import_scores(tmp_path / "a", aum, TensorDataset(torch.from_numpy(X[:20]), torch.zeros(20).long()), name="a")
    (tmp_path / "full.csv").write_text("sample_id,num_measurements,margin,aum\n0,1,1.0,1.0\n")
    (tmp_path / "twice.csv").write_text("sample_id,aum\n0,1.0\n0,2.0\n")
    (tmp_path / "nan.csv").write_text("sample_id,aum\n0,nan\n")
    (tmp_path / "words.csv").write_text("sample_id,aum\n0,high\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "doubled.csv").write_text("sample_id,aum,aum\n0,1.0,2.0\n")
    np.save(tmp_path / "pickled.npy", np.array([object()]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(4))
    np.save(tmp_path / "square.npy", np.zeros((4, 4)))
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    for tool, name, sentence in [
        ("aum", "full.csv", "one line for each example"),
        ("aum", "twice.csv", "several values"),
        ("aum", "nan.csv", "no finite numbers"),
        ("aum", "words.csv", "no numbers"),
        ("aum", "empty.csv", "no file of aum"),
        ("aum", "doubled.csv", "no file of aum"),
        ("aum", "missing.csv", "does not exist"),
        ("aum", "flat.npy", "no .csv, .jsonl or .parquet file: use the reader 'npz'"),
        ("cartography", "nan.csv", "confidence"),
        ("cleanlab", "nan.csv", "label issues"),
        ("cleanlab", "other.csv", "label issues: give the issues that cleanlab found"),
        ("npz", "none.npz", "holds no scores"),
        ("trak", "pickled.npy", "no file of trak"),
        ("npz", "pickled.npy", "no file of npz"),
        ("trak", "flat.npy", r"\[train, targets\]"),
        ("npz", "broken.npz", "no file of npz"),
        ("npz", "square.npy", r"shape \[4, 4\], expected one number for each example"),
        ("pickle", "flat.npy", "choose one of"),
    ]:
        with pytest.raises((InputError, ShapeError), match=sentence):
            read_scores(tool, tmp_path / name)
    assert set(TOOLS) == {"cleanlab", "cartography", "aum", "trak", "npz"}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_weights_are_exported_by_key_and_by_example(tmp_path, suffix):
    import_scores(tmp_path / "a", read_scores("aum", WRITTEN / "aum_values.csv"), dataset(), name="from-aum")
    stored = load(tmp_path / "a")
    reader = pyarrow.parquet.read_table if suffix == "parquet" else pyarrow.csv.read_csv
    assert export(tmp_path / "a", tmp_path / f"rows.{suffix}") == SIZE
    rows = reader(tmp_path / f"rows.{suffix}").to_pydict()
    assert rows["key"] == [bytes(key).hex() for key in stored.rows.keys]
    assert rows["weight"] == pytest.approx(stored.commentary.values()[:, 0].tolist())
    order = np.random.default_rng(0).permutation(SIZE)
    assert export(stored, tmp_path / f"examples.{suffix}", dataset(order)) == SIZE
    examples = reader(tmp_path / f"examples.{suffix}").to_pydict()
    assert examples["weight"] == pytest.approx(bind(stored, dataset(order)).weights().tolist(), rel=1e-5)
    assert examples["position"] == list(range(SIZE))
    with pytest.raises(InputError, match=r"\.parquet, \.csv"):
        export(stored, tmp_path / "weights.pickle")
    with pytest.raises(InputError, match=r"nowhere of weights\.csv does not exist: make it first"):
        export(stored, tmp_path / "nowhere" / "weights.csv")


def test_the_command_line_imports_and_exports(tmp_path, capsys):
    from typer.testing import CliRunner

    from commentary_hub.cli._main import build_app

    def run(*arguments):
        result = CliRunner().invoke(build_app(), [str(part) for part in arguments])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    aum = WRITTEN / "aum_values.csv"
    answer = run("import", "aum", aum, "--dataset", "sklearn:digits", "--out", tmp_path / "digits-aum", "--json")
    assert answer["manifest"]["name"] == "digits-aum"
    assert answer["manifest"]["parameters"]["rows"] == SIZE
    assert run("export", tmp_path / "digits-aum", tmp_path / "w.csv", "--json")["lines"] == SIZE
    by_example = ["--dataset", "sklearn:digits", "--threshold", "0", "--json"]
    assert run("export", tmp_path / "digits-aum", tmp_path / "e.parquet", *by_example)["lines"] == len(DIGITS.data)
    table = pyarrow.parquet.read_table(tmp_path / "e.parquet").to_pydict()
    assert table["found"] == [True] * SIZE + [False] * (len(DIGITS.data) - SIZE)
