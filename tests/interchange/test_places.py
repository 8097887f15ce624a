"""Whose score is where: tables that were sorted, filtered or named otherwise on their way here."""

import json

import numpy as np
import pandas as pd
import pytest

from commentary_hub.artefact import load
from commentary_hub.errors import InputError
from commentary_hub.interchange import import_scores, read_scores
from commentary_hub.reuse import bind
from tests.interchange.scored import SIZE, WRITTEN, check, dataset


def issues(size=SIZE):
    """A table as cleanlab's ``get_issues`` gives it, and its scores."""
    scores = np.random.default_rng(5).permutation(size) / size * 0.9 + 0.05
    return pd.DataFrame({"is_label_issue": False, "label_score": scores}), scores


def written(table, path):
    (table.to_parquet if path.suffix == ".parquet" else table.to_csv)(path)
    return path


def written_twice(table, path):
    """Through a first file, whose reader takes the index for a column."""
    table.to_csv(path)
    pd.read_csv(path).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("issues.csv", written),
        ("issues.parquet", written),
        ("named.parquet", lambda table, path: written(table.rename_axis("place"), path)),
        ("column.csv", lambda table, path: table.reset_index().to_csv(path, index=False)),
        ("column.parquet", lambda table, path: table.reset_index().to_parquet(path)),
        ("twice.csv", written_twice),
    ],
)
def test_a_table_of_cleanlab_that_was_sorted_keeps_each_score_at_its_example(tmp_path, name, write):
    table, scores = issues()
    for number, one in enumerate((table.sort_values("label_score"), table[::-1])):
        write(one, tmp_path / name)
        import_scores(tmp_path / str(number), read_scores("cleanlab", tmp_path / name), dataset(), name="sorted")
        check(tmp_path / str(number), scores)


@pytest.mark.parametrize("name", ["issues.csv", "issues.parquet"])
def test_a_table_of_cleanlab_that_was_filtered_scores_only_its_own_examples(tmp_path, name):
    table, scores = issues()
    for number, part in enumerate((table[table["label_score"] < 0.4], table[11:30])):
        kept = part.index.to_numpy()
        read = read_scores("cleanlab", written(part, tmp_path / name))
        import_scores(tmp_path / str(number), read, dataset(), name="some")
        binding = bind(load(tmp_path / str(number)), dataset(), threshold=0)
        assert np.flatnonzero(binding.rows >= 0).tolist() == sorted(kept)
        weights = binding.weights().numpy()[kept]
        assert weights / weights.mean() == pytest.approx(scores[kept] / scores[kept].mean(), rel=1e-5)
    part.to_csv(tmp_path / "without.csv", index=False)
    with pytest.raises(InputError, match="scores 19 examples by their order, the dataset has 40"):
        import_scores(tmp_path / "a", read_scores("cleanlab", tmp_path / "without.csv"), dataset(), name="some")


def test_an_index_that_holds_no_positions_of_the_dataset_is_refused(tmp_path):
    table, _ = issues(20)
    file = tmp_path / "issues.csv"
    for index, sentence in [
        (range(30, 50), "scores the examples 30 to 49, the dataset has 40"),
        (range(-1, 19), "-1 is no position .*ids="),
        ([0.5, *range(1, 20)], "0.5 is no position .*ids="),
        ([3, 3, *range(4, 22)], "several values"),
        ([None, *range(19)], "1 examples have neither name nor position"),
        ([f"digit-{number}" for number in range(20)], "'digit-0' is no position .*ids="),
        (range(20), "scores 20 examples by their order, the dataset has 40"),
    ]:
        written(table.set_axis(pd.Index(list(index), dtype=object)), file)
        with pytest.raises(InputError, match=sentence):
            import_scores(tmp_path / "a", read_scores("cleanlab", file), dataset(), name="a")
    table.sort_values("label_score").to_csv(file)
    pd.read_csv(file).to_csv(file)
    with pytest.raises(InputError, match=r"several indices \('', 'Unnamed: 0'\): keep the one"):
        read_scores("cleanlab", file)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["0,1.0", ",2.0"], "1 examples have neither name nor position: drop"),
        (["0,1.0", "2.5,2.0"], "2.5 is no position .*ids="),
        (["a,1.0", "1_2,2.0"], "'a' is no position .*ids="),
        (["2020-01-01,1.0", "2020-01-02,2.0"], "is no position .*ids="),
        (["true,1.0", "false,2.0"], "True is no position .*ids="),
    ],
)
def test_samples_of_aum_without_a_position_are_refused(tmp_path, lines, sentence):
    (tmp_path / "aum_values.csv").write_text("\n".join(["sample_id,aum", *lines]) + "\n")
    with pytest.raises(InputError, match=sentence):
        import_scores(tmp_path / "a", read_scores("aum", tmp_path / "aum_values.csv"), dataset(), name="a")


def test_positions_that_pandas_made_floats_are_whole_all_the_same(tmp_path):
    (tmp_path / "aum_values.csv").write_text("sample_id,aum\n7.0,1.0\n3.0,2.0\n")
    scores = read_scores("aum", tmp_path / "aum_values.csv")
    assert scores.positions(SIZE, None).tolist() == [7, 3]
    records = [{"guid": "07", "confidence": 0.5}, {"guid": "7", "confidence": 0.25}]
    (tmp_path / "td_metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(InputError, match="twice, spelt differently"):
        read_scores("cartography", tmp_path / "td_metrics.jsonl").positions(SIZE, None)


@pytest.mark.parametrize(("tool", "name"), [("aum", "aum_values.csv"), ("cartography", "td_metrics.jsonl")])
def test_lines_in_any_order_and_only_some_of_them_find_their_examples(tmp_path, tool, name):
    lines = (WRITTEN / name).read_text().splitlines()
    head, body = (lines[:1], lines[1:]) if tool == "aum" else ([], lines)
    chosen = np.random.default_rng(2).permutation(SIZE)[:25]
    (tmp_path / name).write_text("\n".join([*head, *(body[at] for at in chosen)]) + "\n")
    whole, some = read_scores(tool, WRITTEN / name), read_scores(tool, tmp_path / name)
    by_place = dict(zip(whole.positions(SIZE, None).tolist(), whole.values.tolist(), strict=True))
    assert [by_place[place] for place in some.positions(SIZE, None).tolist()] == some.values.tolist()
    import_scores(tmp_path / "a", some, dataset(), name="some", scale="rank")
    order = np.random.default_rng(3).permutation(SIZE)
    binding = bind(load(tmp_path / "a"), dataset(order), threshold=0)
    assert set(order[np.flatnonzero(binding.rows >= 0)]) == set(some.positions(SIZE, None).tolist())


def test_an_archive_that_may_say_whose_score_is_where_is_refused(tmp_path):
    values = np.linspace(0, 1, SIZE)
    for name, places in (("indices", np.arange(SIZE)[::-1]), ("ids", np.arange(1, SIZE + 1))):
        np.savez(tmp_path / "some.npz", scores=values, **{name: places})
        for measure in (None, "scores"):
            with pytest.raises(InputError, match=f"holds '{name}' beside 'scores'.*save the scores without"):
                read_scores("npz", tmp_path / "some.npz", measure=measure)
    np.savez(tmp_path / "some.npz", scores=values, index=np.arange(SIZE), indices=np.arange(5))
    assert read_scores("npz", tmp_path / "some.npz").values.tolist() == values.tolist()
