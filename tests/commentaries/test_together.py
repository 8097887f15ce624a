"""Kinds compose in the order of their stages, are learned together, stored apart, and bound together again."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from commentary_hub.artefact import load
from commentary_hub.commentaries import (
    AttentionMask,
    Batch,
    ExampleWeights,
    LabelBlend,
    Stage,
    WeightNetwork,
    commented_loss,
    compose,
    cross_entropy,
    kind_class,
)
from commentary_hub.data import Examples, content_keys
from commentary_hub.errors import InputError, LabelError, ManifestInvalid, TensorFileInvalid
from commentary_hub.learning import SGD, Implicit, Neumann, Student, Unrolled, learn
from commentary_hub.recipes import save
from commentary_hub.reuse import bind

CLASSES = 3
STUDENT = Student("linear", lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, CLASSES)))


def pictures(count, seed):
    """One bright square whose height is the label, and a distractor."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    inputs = 0.1 * torch.rand(count, 3, 12, 12, generator=generator)
    for row, target in enumerate(targets.tolist()):
        inputs[row, 0, 4 * target : 4 * target + 3, 2:5] += 0.8
    return Examples.of(inputs, targets, keys=content_keys(inputs.numpy()), classes=tuple("abc"))


def all_kinds():
    torch.manual_seed(0)
    blend = LabelBlend(CLASSES)
    with torch.no_grad():
        blend.logits.copy_(torch.linspace(-2, 2, CLASSES**2).reshape(CLASSES, CLASSES))
    weights = WeightNetwork(
        "mlp",
        settings={"inputs": 432, "hidden": [4]},
        labels="index",
        classes=CLASSES,
    )
    return weights, AttentionMask(3, settings={"width": 4}, sigma=3.0, size=(12, 12)), blend


def test_stages_order_what_acts_in_a_step():
    weights, mask, blend = all_kinds()
    assert [one.stage for one in compose([blend, mask, weights])] == [Stage.WEIGHT, Stage.MASK, Stage.BLEND]
    assert compose([blend, mask, weights]) == (weights, mask, blend)
    assert {kind_class(one.kind) for one in all_kinds()} == {WeightNetwork, AttentionMask, LabelBlend}


def test_one_step_weighs_then_masks_then_blends():
    weights, mask, blend = all_kinds()
    examples = pictures(6, 0)
    batch = Batch(examples.inputs, examples.targets, seed=9)
    after = batch
    for one in compose([blend, weights, mask]):
        after = one(after, 0.5)
    judged = weights(batch, 0.5).weights  # of the pictures as they are, not as masks leave them
    covered = examples.inputs * mask.mask(examples.inputs)  # each by its own mask, before it is mixed
    partner = torch.randperm(6, generator=torch.Generator().manual_seed(9))
    ratio = blend.ratios()[examples.targets, examples.targets[partner]]
    wide = ratio[:, None, None, None]
    torch.testing.assert_close(after.weights, judged)
    torch.testing.assert_close(after.inputs, wide * covered + (1 - wide) * covered[partner])
    torch.testing.assert_close(after.blend.weights, judged[partner])
    outputs = torch.randn(6, CLASSES)
    own, other = (cross_entropy(outputs, t) for t in (examples.targets, examples.targets[partner]))
    shares = ratio * judged, (1 - ratio) * judged[partner]
    expected = (shares[0] * own + shares[1] * other).sum() / (shares[0] + shares[1]).sum()
    torch.testing.assert_close(commented_loss(outputs, after, reduction="weight_mean"), expected)


@pytest.mark.parametrize(
    "method", [Unrolled(), Implicit(inverse=Neumann(terms=2, scale=0.1))], ids=["unrolled", "implicit"]
)
def test_learned_together_stored_apart_bound_together(tmp_path, method):
    train, validation = pictures(60, 1), pictures(24, 2)
    before = [{k: t.clone() for k, t in one.state_dict().items()} for one in all_kinds()]
    learned = learn(
        all_kinds(), STUDENT, train=train, validation=validation, method=method, inner=SGD(lr=0.1),
        inner_steps=4, batch_size=12, outer_steps=3, outer=lambda p: torch.optim.Adam(p, lr=0.02),
    )  # fmt: skip
    for one, old in zip(learned.commentaries, before, strict=True):
        assert any(not torch.equal(old[name], tensor) for name, tensor in one.state_dict().items())
        manifest = save(tmp_path / one.kind, learned, name=one.kind.replace("_", "-"), commentary=one)
        assert manifest.kind == one.kind
    with pytest.raises(InputError, match="say which"):
        save(tmp_path / "which", learned, name="which")
    stored = [load(tmp_path / one.kind) for one in learned.commentaries]
    data = TensorDataset(train.inputs, train.targets)
    binding = bind(stored[::-1], data)
    batch = Batch(train.inputs[:12], train.targets[:12], seed=3)
    for one in learned.commentaries:
        batch = one(batch, 0.25)
    again = binding.step(train.inputs[:12], train.targets[:12], torch.arange(12), 0.25, seed=3)
    torch.testing.assert_close(again.inputs, batch.inputs)
    torch.testing.assert_close(again.weights, batch.weights)
    torch.testing.assert_close(again.blend.ratio, batch.blend.ratio)
    student = STUDENT.build()
    rows = torch.arange(12)
    binding.loss(student, train.inputs[:12], train.targets[:12], rows).backward()
    assert float(student[1].weight.grad.abs().sum()) > 0


def test_kinds_from_different_runs_and_a_table_meet_in_one_step(tmp_path):
    train, validation = pictures(30, 1), pictures(12, 2)
    options = {
        "train": train, "validation": validation, "method": Unrolled(), "inner": SGD(lr=0.1), "inner_steps": 2,
        "batch_size": 10, "outer_steps": 1,
    }  # fmt: skip
    for one in (ExampleWeights(rows=30), LabelBlend(CLASSES)):
        save(tmp_path / one.kind, learn(one, STUDENT, **options), name="part")
    both = [load(tmp_path / "label_blend"), load(tmp_path / "example_weights")]
    binding = bind(both, TensorDataset(train.inputs, train.targets))
    batch = binding.step(train.inputs, train.targets, torch.arange(30), 0.0, seed=1)
    assert batch.weights.mean().item() == pytest.approx(1.0)
    assert batch.blend is not None


def blended(folder):
    train, validation = pictures(30, 1), pictures(12, 2)
    blend = LabelBlend(CLASSES)
    learned = learn(
        blend, STUDENT, train=train, validation=validation, method=Unrolled(), inner=SGD(lr=0.1), inner_steps=2,
        batch_size=10, outer_steps=2,
    )  # fmt: skip
    save(folder, learned, name="blend")
    return bind(load(folder), TensorDataset(train.inputs, train.targets))


def test_a_blend_is_a_transform_and_a_collate_function(tmp_path):
    binding = blended(tmp_path / "blend")
    transform = v2.Compose([binding.transform(CLASSES), v2.Identity()])
    inputs, targets = binding.source.tensors
    rows = torch.arange(30)
    torch.manual_seed(4)
    mixed, soft = transform(inputs, targets, rows)
    torch.manual_seed(4)
    seed = int(torch.randint(2**31, ()))
    batch = binding.step(inputs, targets, rows, 0.0, seed=seed)
    student = STUDENT.build()
    torch.testing.assert_close(mixed, batch.inputs)
    torch.testing.assert_close(soft.sum(1), torch.ones(30))
    expected = commented_loss(student(batch.inputs), batch, reduction="mean")
    torch.testing.assert_close(functional.cross_entropy(student(mixed), soft), expected)
    loader = DataLoader(binding, batch_size=10, collate_fn=binding.collate(CLASSES))
    seen = list(loader)
    assert [part[0].shape for part in seen] == [(10, 3, 12, 12)] * 3
    assert all(bool(((part[1] > 0).sum(1) <= 2).all()) for part in seen)
    with pytest.raises(LabelError, match="2 classes"):
        binding.transform(2)(inputs, targets, rows)


def test_a_commentary_for_other_classes_is_refused_before_learning():
    train, validation = pictures(30, 1), pictures(12, 2)
    options = {"method": Unrolled(), "inner": SGD(lr=0.1), "inner_steps": 2, "batch_size": 10, "outer_steps": 1}
    for one in (LabelBlend(4), WeightNetwork("mlp", settings={"inputs": 432, "hidden": []}, labels="index", classes=2)):
        with pytest.raises(LabelError, match="the training set has 3: give it classes=3"):
            learn(one, STUDENT, train=train, validation=validation, **options)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"network": "os.system"}, ManifestInvalid, "no network"),
        ({"network": "resnet18", "settings": {"classes": 1, "depths": [10**9]}}, ManifestInvalid, "blocks"),
        ({"settings": {"width": 10**12}}, (ManifestInvalid, TensorFileInvalid), "expects|cannot be read"),
        ({"settings": {"layers": 10**9}}, ManifestInvalid, "16 layers"),
        ({"colour": "red"}, ManifestInvalid, "colour"),
        ({"sigma": "wide"}, ManifestInvalid, "cannot be read"),
        ({"channels": 4}, TensorFileInvalid, "expects"),
        ({"channels": 1e999}, ManifestInvalid, "cannot be read"),
        ({"channels": -3}, ManifestInvalid, "cannot be read"),
        ({"network": None}, ManifestInvalid, "network is None"),
        ({"network": ["conv_map"]}, ManifestInvalid, "module of your own"),
        ({"settings": [1]}, ManifestInvalid, "cannot be read"),
        ({"size": [12]}, ManifestInvalid, "cannot be read"),
    ],
)
def test_an_artefact_names_a_network_and_never_code(tmp_path, changes, error, words):
    from tests.hostile.test_artefacts import edit

    train, validation = pictures(30, 1), pictures(12, 2)
    learned = learn(
        AttentionMask(3), STUDENT, train=train, validation=validation, method=Unrolled(), inner=SGD(lr=0.1),
        inner_steps=1, batch_size=10, outer_steps=1,
    )  # fmt: skip
    manifest = save(tmp_path, learned, name="mask")
    edit(tmp_path, parameters=manifest.parameters | changes)
    with pytest.raises(error, match=words):
        load(tmp_path)
