"""Students of any precision: a commentary works in its own and gives the inputs back in theirs."""

import pytest
import torch

from commentary_hub.commentaries import AttentionMask, Batch, LabelBlend, SupportWeights, WeightNetwork

MLP = {"inputs": 64, "hidden": [4]}
KINDS = {
    "mask": lambda: AttentionMask(1, sigma=2.0, settings={"width": 2}, background=0.1),
    "mask of learned width": lambda: AttentionMask(1, sigma=2.0, settings={"width": 2}, learn_sigma=True),
    "mask by a map": lambda: AttentionMask(1, "unet", form="map", settings={"width": 2}),
    "weights by age": lambda: WeightNetwork("mlp", settings=MLP),
    "weights by label": lambda: WeightNetwork("mlp", settings=MLP, labels="index", classes=3, progress=False),
    "weights fed the label": lambda: WeightNetwork("mlp", settings=MLP, labels="input", classes=3),
    "support weights": lambda: SupportWeights("mlp", MLP | {"classes": 3}),
    "blend": lambda: LabelBlend(3),
}


def built(kind):
    torch.manual_seed(0)
    return KINDS[kind]()


def batch(dtype):
    inputs = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Batch(inputs.bfloat16().to(dtype), torch.arange(6) % 3)  # the same numbers in every precision but float16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_another_precision_is_judged_in_the_commentarys_and_keeps_its_own(kind, dtype):
    one, given = built(kind), batch(dtype)
    found, expected = one(given, 1 / 3), one(Batch(given.inputs.float(), given.targets), 1 / 3)
    assert found.inputs.dtype == dtype
    torch.testing.assert_close(found.inputs, expected.inputs.to(dtype))
    if found.weights is not None:
        assert found.weights.dtype == torch.float32
        assert torch.equal(found.weights, expected.weights)
    if isinstance(one, AttentionMask):
        assert torch.equal(one.mask(given.inputs), one.mask(given.inputs.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_commentary_in_float64_says_float64(kind):
    found = built(kind).double()(batch(torch.float64), 1 / 3)
    said = found.blend.ratio if found.blend is not None else found.weights
    assert found.inputs.dtype == torch.float64
    assert said is None or said.dtype == torch.float64
    torch.testing.assert_close(found.inputs.float(), built(kind)(batch(torch.float32), 1 / 3).inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_says_nearly_the_same(kind):
    one, given = built(kind), batch(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = one(given, 1 / 3)
    expected = one(given, 1 / 3)
    assert found.inputs.dtype == torch.float32
    torch.testing.assert_close(found.inputs, expected.inputs, atol=0.02, rtol=0.02)
    if found.weights is not None:
        torch.testing.assert_close(found.weights.float(), expected.weights, atol=0.02, rtol=0.02)
