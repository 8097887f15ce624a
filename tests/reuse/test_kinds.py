"""All kinds in new training: alone, together in their fixed order, compiled, at inference; and what they refuse."""

import json
import shutil

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from packaging.version import Version
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from commentary_hub.artefact import load, save
from commentary_hub.commentaries import AttentionMask, LabelBlend, MixtureWeights, WeightNetwork
from commentary_hub.data import content_keys, target_digests
from commentary_hub.errors import BindingError, ClassesDiffer, FormatTooNew, InputError, UnknownKind
from commentary_hub.manifest import DatasetBinding, KeyScheme
from commentary_hub.reuse import at_inference, bind, bind_stream, interleave
from tests.reuse.bound import stored

SIZE = 48
X = torch.rand(SIZE, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SIZE) % 3
LOGITS = torch.linspace(-2, 2, SIZE)
WEIGHTS = torch.sigmoid(LOGITS) / torch.sigmoid(LOGITS).double().mean().float()
DATA = TensorDataset(X, Y)


def kept(folder, commentary, **options):
    binding = DatasetBinding(identity={"id": "some/pictures"}, rows=SIZE, key=KeyScheme(form="none"))
    save(folder, commentary, dataset=binding, **{"name": "kind", "loss_reduction": "mean"} | options)
    return load(folder)


def table(folder, **options):
    return stored(folder, content_keys(X), target_digests(Y), logits=LOGITS, **options)


def mask(folder, **options):
    torch.manual_seed(1)
    return kept(folder, AttentionMask(channels=1, sigma=2.0, settings={"width": 2}, **options))


def blend(folder, classes=3):
    commentary = LabelBlend(classes)
    torch.nn.init.normal_(commentary.logits)
    return kept(folder, commentary)


def judge(folder, **options):
    torch.manual_seed(2)
    defaults = {"settings": {"inputs": 64, "hidden": [4]}, "labels": "index", "classes": 3}
    return kept(folder, WeightNetwork("mlp", **defaults | options))


def student():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_kinds_act_in_their_own_order_whatever_order_was_given(tmp_path, order):
    every = [
        table(tmp_path / "table"),
        judge(tmp_path / "judge", progress=False),
        mask(tmp_path / "mask"),
        blend(tmp_path / "blend"),
    ]
    binding = bind([every[number] for number in order], DATA)
    rows = torch.arange(SIZE)
    loss = binding.loss(student(), X, Y, rows, progress=0.3)
    with torch.no_grad():
        judged = torch.sigmoid(every[1].commentary.network(X.flatten(1)).gather(1, Y[:, None])[:, 0])
        weights = WEIGHTS * judged
        masked = X * every[2].commentary.mask(X)
        partner = torch.randperm(SIZE, generator=torch.Generator().manual_seed(0))
        ratio = every[3].commentary.ratios()[Y, Y[partner]]
        wide = ratio[:, None, None, None]
        logits = student()(wide * masked + (1 - wide) * masked[partner])
        own, other = (functional.cross_entropy(logits, labels, reduction="none") for labels in (Y, Y[partner]))
        expected = (ratio * weights * own + (1 - ratio) * weights[partner] * other).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_partners_of_a_blend_follow_the_step_and_the_seed(tmp_path):
    one = blend(tmp_path / "blend")
    rows = torch.arange(SIZE)
    first, again, other = (bind(one, DATA, seed=seed) for seed in (5, 5, 6))
    losses = [[binding.loss(student(), X, Y, rows).item() for _ in range(2)] for binding in (first, again, other)]
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_student_trains_as_a_plain_one_under_all_kinds(tmp_path, backend):
    if backend == "inductor" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler for torch.compile")
    every = [table(tmp_path / "table"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    rows = torch.arange(SIZE)
    plain, quick = student(), student()
    for model, caller in ((plain, plain), (quick, torch.compile(quick, backend=backend, fullgraph=True))):
        binding = bind(every, DATA)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(2):
            optimiser.zero_grad()
            binding.loss(caller, X, Y, rows).backward()
            optimiser.step()
    assert torch.allclose(plain[1].weight, quick[1].weight, atol=1e-6)


@pytest.mark.skipif(Version(torch.__version__) < Version("2.14"), reason="torch 2.11 counts more frames of this one")
def test_a_compiled_step_is_compiled_once_however_far_training_is(tmp_path):
    every = [table(tmp_path / "table"), judge(tmp_path / "judge"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    binding, model, rows = bind(every, DATA, steps=30), student(), torch.arange(SIZE)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step = torch.compile(lambda: binding.loss(model, X, Y, rows), backend="eager")
    frames = []
    for _ in range(20):
        step().backward()
        frames.append(torch._dynamo.utils.counters["frames"]["total"])
    assert frames[-1] == frames[3] > 0
    assert binding.step_count == 20


def test_a_trained_student_sees_masks_at_inference_and_nothing_else(tmp_path):
    every = [table(tmp_path / "table"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    model = student()
    used = at_inference(every, model)
    masked = X * every[1].commentary.mask(X)
    assert torch.allclose(used(X), model(masked))
    assert not torch.allclose(used(X), model(X))
    assert at_inference(every[0], model) is model
    assert [p for p in used.parameters() if p.requires_grad] == list(model.parameters())


def test_what_is_stored_stays_as_it_is_when_the_student_behind_it_is_converted(tmp_path):
    one = mask(tmp_path / "mask")
    expected = one.commentary.mask(X)
    used = at_inference(one, student()).bfloat16()
    assert used(X.bfloat16()).dtype == torch.bfloat16
    assert {p.dtype for p in used.parameters()} == {torch.bfloat16}
    assert torch.equal(one.commentary.mask(X), expected)
    bind(one, DATA)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_student_of_less_precision_trains_and_is_used_under_all_kinds(tmp_path, dtype):
    every = [table(tmp_path / "table"), judge(tmp_path / "judge"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    rows, less = torch.arange(SIZE), student().to(dtype)
    loss = bind(every, DATA).loss(less, X.to(dtype), Y, rows)
    loss.backward()
    assert less[1].weight.grad.dtype == dtype
    assert loss.item() == pytest.approx(bind(every, DATA).loss(student(), X, Y, rows).item(), rel=0.02)
    used = at_inference(every, less)(X.to(dtype))
    assert used.dtype == dtype
    torch.testing.assert_close(used.float(), at_inference(every, student())(X), atol=0.02, rtol=0.02)


def test_autocast_trains_a_student_under_all_kinds(tmp_path):
    every = [table(tmp_path / "table"), judge(tmp_path / "judge"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    rows = torch.arange(SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        loss = bind(every, DATA).loss(student(), X, Y, rows)
    assert loss.item() == pytest.approx(bind(every, DATA).loss(student(), X, Y, rows).item(), rel=0.02)


def test_a_transform_and_a_collate_function_give_the_bindings_loss(tmp_path):
    every = [table(tmp_path / "table"), mask(tmp_path / "mask"), blend(tmp_path / "blend")]
    binding = bind(every, DATA)
    model = student()
    for loader in (
        DataLoader(binding, batch_size=16, collate_fn=binding.collate(3)),
        DataLoader(binding, batch_size=16, collate_fn=binding.collate(3), num_workers=1),
    ):
        for inputs, soft in loader:
            assert (inputs.shape, soft.shape) == ((16, 1, 8, 8), (16, 3))
    torch.manual_seed(4)
    inputs, soft = binding.transform(3, progress=0.5)(X, Y, torch.arange(SIZE))
    torch.manual_seed(4)
    seed = int(torch.randint(2**31, ()))
    batch = binding.step(X, Y, torch.arange(SIZE), 0.5, seed=seed)
    logits = model(batch.inputs)
    own, other = (
        functional.cross_entropy(logits, labels, reduction="none") for labels in (batch.targets, batch.blend.targets)
    )
    ratio = batch.blend.ratio
    expected = (ratio * batch.weights * own + (1 - ratio) * batch.blend.weights * other).mean()
    assert torch.allclose(functional.cross_entropy(model(inputs), soft), expected, atol=1e-6)


def test_a_loader_over_the_dataset_that_was_bound_is_told_to_read_the_binding(tmp_path):
    binding = bind(table(tmp_path / "table"), DATA)
    dictionaries = [{"x": x, "label": y} for x, y in zip(X[:4], Y, strict=False)]
    with pytest.raises(InputError, match=r"a batch has 2 parts.* let the loader read the binding"):
        binding.transform(3)(X, Y)
    for source in (DATA, dictionaries):
        with pytest.raises(InputError, match="let the loader read the binding"):
            next(iter(DataLoader(source, batch_size=4, collate_fn=binding.collate(3))))


def test_labels_beyond_the_classes_a_kind_knows_are_refused_before_training(tmp_path):
    names = Features({"x": datasets.Array3D((1, 8, 8), "float32"), "label": datasets.ClassLabel(num_classes=4)})
    four = Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()}, features=names)
    for one in (blend(tmp_path / "blend"), judge(tmp_path / "judge")):
        with pytest.raises(ClassesDiffer, match="knows 3 classes, the dataset has 4 or more"):
            bind(one, TensorDataset(X, Y + 1))
        with pytest.raises(ClassesDiffer, match="knows 3 classes, the dataset has 4:"):
            bind(one, four)
        with pytest.raises(ClassesDiffer):
            bind_stream(one, [(x, int(y) + 1) for x, y in zip(X, Y, strict=True)])


def test_a_mask_for_another_size_or_colour_is_refused_before_training(tmp_path):
    one = mask(tmp_path / "mask", size=(8, 8))
    with pytest.raises(BindingError, match=r"inputs of shape \[1, 9, 8\]"):
        bind(one, TensorDataset(torch.rand(4, 1, 9, 8), Y[:4]))
    with pytest.raises(BindingError, match=r"inputs of shape \[3, 8, 8\]"):
        bind(one, TensorDataset(torch.rand(4, 3, 8, 8), Y[:4]))
    with pytest.raises(BindingError, match=r"inputs of shape \[1, 9, 8\]"):
        bind(one, [{"image": torch.rand(1, 9, 8), "label": 0}] * 4)


def test_a_newer_format_and_an_unknown_kind_are_refused_before_anything_is_bound(tmp_path):
    table(tmp_path / "a")
    manifest = json.loads((tmp_path / "a/commentary.json").read_text())
    for change, error in (({"format_version": 2}, FormatTooNew), ({"kind": "haruspicy"}, UnknownKind)):
        (tmp_path / "a/commentary.json").write_text(json.dumps(manifest | change))
        with pytest.raises(error, match=r"upgrade commentary-hub|haruspicy"):
            load(tmp_path / "a")


def mixture(folder, logits=(0.0, 1.0, -1.0)):
    commentary = MixtureWeights(["news", "plays", "law"])
    with torch.no_grad():
        commentary.logits.copy_(torch.tensor(logits))
    return kept(folder, commentary)


def test_a_mixture_draws_from_sources_with_its_probabilities(tmp_path):
    parts = {
        name: Dataset.from_dict({"text": [name] * 6_000}, features=Features({"text": Value("string")}))
        for name in ("plays", "news")
    }
    expected = float(torch.softmax(torch.tensor([1.0, 0.0]), 0)[0])
    for streaming in (False, True):
        given = {name: part.to_iterable_dataset() for name, part in parts.items()} if streaming else parts
        mixed = interleave(mixture(tmp_path / "mixture"), given, seed=0)
        drawn = [row["text"] for row in mixed][:5_000]
        assert drawn.count("plays") / len(drawn) == pytest.approx(expected, abs=0.025)
    with pytest.raises(InputError, match="novels"):
        interleave(mixture(tmp_path / "mixture"), {"novels": parts["news"]})
    with pytest.raises(InputError, match=r"under the name of its source: \{'news': dataset"):
        interleave(mixture(tmp_path / "mixture"), list(parts.values()))
    with pytest.raises(InputError, match="bind it instead"):
        interleave(table(tmp_path / "table"), parts)


def test_a_mixture_weighs_the_examples_of_its_sources(tmp_path):
    sources = ["news"] * 24 + ["plays"] * 12 + ["poems"] * 12
    shares = torch.softmax(torch.tensor([0.0, 1.0]), 0)
    expected = torch.cat([shares[0] / (24 / 36) * torch.ones(24), shares[1] / (12 / 36) * torch.ones(12)])
    binding = bind(mixture(tmp_path / "mixture"), DATA, sources=sources)
    assert (binding.counts.found, binding.counts.missing) == (36, 12)
    weights = binding.weights()
    assert torch.allclose(weights[:36] / weights[35], expected / expected[35], atol=1e-5)
    rows = torch.tensor([0, 30, 40])
    assert torch.allclose(binding.step(X[rows], Y[rows], rows, 0.0).weights, weights[rows])
    column = Dataset.from_dict({"x": X.flatten(1).tolist(), "label": Y.tolist(), "source": sources})
    named = bind(mixture(tmp_path / "mixture"), column, sources="source", inputs="x")
    assert torch.equal(named.weights(), weights)
    for options, sentence in (
        ({}, "sources="),
        ({"sources": ["law"]}, "1 sources"),
        ({"sources": ["x"] * SIZE}, "knows"),
    ):
        with pytest.raises((BindingError, InputError), match=sentence):
            bind(mixture(tmp_path / "mixture"), DATA, **options)
    with pytest.raises(BindingError, match="interleave"):
        bind_stream(mixture(tmp_path / "mixture"), list(zip(X, Y.tolist(), strict=True)))


def test_a_mixture_and_a_table_multiply(tmp_path):
    sources = ["news"] * 24 + ["plays"] * 24
    alone = bind(mixture(tmp_path / "mixture"), DATA, sources=sources).weights()
    both = bind([table(tmp_path / "table"), mixture(tmp_path / "mixture")], DATA, sources=sources)
    rows = torch.arange(SIZE)
    assert torch.allclose(both.step(X, Y, rows, 0.0).weights, alone * WEIGHTS, atol=1e-5)
    assert np.allclose(both.weights(), alone * WEIGHTS, atol=1e-5)
