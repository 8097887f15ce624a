"""Networks: shapes, gradients, what they must not see, and mistakes with names."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from commentary_hub.errors import InputError
from commentary_hub.networks import CharLM, UNet, network

PICTURES = [
    ("mlp", {"inputs": 3072, "hidden": [16], "classes": 7}, 32),
    ("cbr", {"channels": 3, "classes": 7}, 32),
    ("cbr", {"channels": 3, "classes": 7, "size": [28, 36]}, (28, 36)),
    ("cbr", {"channels": 3, "classes": 7, "size": [13, 13]}, 13),
    ("cnn", {"channels": 3, "classes": 7}, 8),
    ("cnn", {"channels": 3, "classes": 7}, 2),
    ("conv4", {"channels": 3, "classes": 7, "width": 8}, 28),
    ("conv4", {"channels": 3, "classes": 7, "width": 8}, (84, 80)),
    ("resnet18", {"channels": 3, "classes": 7, "width": 8}, 32),
    ("resnet34", {"channels": 3, "classes": 7, "width": 4}, 32),
]


def pictures(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(4, 3, height, width)


@pytest.mark.parametrize(("name", "settings", "size"), PICTURES)
def test_logits_have_one_row_per_picture(name, settings, size):
    assert network(name, **settings)(pictures(size)).shape == (4, 7)


@pytest.mark.parametrize(("name", "settings", "size"), PICTURES)
def test_every_parameter_learns(name, settings, size):
    student = network(name, **settings)
    student(pictures(size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters() if p.dim() > 1)


def test_the_architectures_are_the_papers():
    count = sum(p.numel() for p in network("resnet18", channels=3, classes=10).parameters())
    assert count == 11_173_962  # the CIFAR ResNet-18 of the literature: 11.17 M
    assert sum(p.numel() for p in network("resnet34", channels=3, classes=10).parameters()) == 21_282_122
    cbr = network("cbr", channels=3, classes=10)
    assert [tuple(p.shape) for n, p in cbr.named_parameters() if n.endswith("weight") and p.dim() == 4] == [
        (32, 3, 5, 5), (64, 32, 3, 3),
    ]  # fmt: skip


def test_a_cbrs_layout_in_memory_is_its_own_affair():
    cbr, inputs = network("cbr", channels=3, classes=10), pictures(32)
    seen = []
    cbr.blocks[3].register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs))
    logits = cbr(inputs)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    plain = cbr.head(cbr.blocks(inputs))
    assert torch.allclose(logits, plain, atol=1e-5)
    stacked = torch.stack([inputs, inputs])
    assert torch.allclose(vmap(cbr.eval())(stacked)[1], cbr(inputs), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (17, 23), (9, 36)])
def test_a_u_net_keeps_any_size(size):
    assert UNet(3)(torch.randn(2, 3, *size)).shape == (2, 1, *size)


def test_a_text_classifier_does_not_see_padding():
    student = network("text_cnn", vocabulary=50, classes=4)
    ids = torch.randint(1, 50, (2, 9))
    padded = torch.cat([ids, torch.zeros(2, 5, dtype=torch.int64)], dim=1)
    assert torch.allclose(student(ids), student(padded), atol=1e-5)


def test_a_text_without_tokens_has_finite_logits_and_gradients():
    student = network("text_cnn", vocabulary=50, classes=4)
    logits = student(torch.zeros(2, 5, dtype=torch.int64))
    logits.square().sum().backward()
    assert torch.allclose(logits, student.head.bias.expand(2, 4))
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


@pytest.mark.parametrize("length", [1, 2, 9])
def test_texts_of_any_length_have_logits(length):
    ids = torch.randint(1, 50, (3, length))
    assert network("text_cnn", vocabulary=50, classes=4, kernels=[1, 5])(ids).shape == (3, 4)
    assert network("char_lm", vocabulary=50, width=8)(ids).shape == (3, length, 50)


def test_a_language_model_looks_back_as_far_as_it_says():
    student = CharLM(30, width=8, layers=2, kernel=3).double()
    ids = torch.randint(1, 30, (1, 20))
    changed = ids.clone()
    changed[0, 10] = 0
    seen = (student(ids) != student(changed)).any(2)[0].nonzero().squeeze(1).tolist()
    assert seen == [10, 11, 12, 13, 14]  # itself and layers · (kernel − 1) after it


@pytest.mark.parametrize("name", ["text_cnn", "char_lm"])
def test_every_parameter_of_a_text_network_learns(name):
    student = network(name, **({"classes": 3} if name == "text_cnn" else {}), vocabulary=20, width=8)
    student(torch.randint(1, 20, (4, 12))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters() if p.dim() > 1)


def test_answers_of_a_batch_depend_on_each_other_only_where_batch_statistics_are_used():
    alone = {"mlp": {"inputs": 3072, "hidden": [8], "classes": 3}, "conv_map": {"channels": 3}}
    batch = pictures(32)
    for name, settings in alone.items():
        student = network(name, **settings)
        assert torch.allclose(student(batch)[:2], student(batch[:2]), atol=1e-5)
    student = network("conv4", channels=3, classes=3, width=8).eval()
    assert not torch.allclose(student(batch)[:2], student(batch[:2]), atol=1e-5)


def test_a_language_model_does_not_see_the_future():
    student = CharLM(30, width=8)
    ids = torch.randint(0, 30, (2, 20))
    later = ids.clone()
    later[:, 10:] = 0
    assert torch.equal(student(ids)[:, :10], student(later)[:, :10])


@pytest.mark.parametrize(("name", "settings"), [("mlp", {"inputs": 64, "hidden": [8], "classes": 3}),
                                                ("text_cnn", {"vocabulary": 20, "classes": 3})])  # fmt: skip
def test_students_can_be_stacked(name, settings):
    students = [network(name, **settings) for _ in range(3)]
    parameters, buffers = stack_module_state(students)
    inputs = torch.randint(1, 20, (5, 64)) if name == "text_cnn" else torch.randn(5, 64)
    together = vmap(lambda p, b: functional_call(students[0], (p, b), (inputs,)))(parameters, buffers)
    for one, outputs in zip(students, together, strict=True):
        assert torch.allclose(one(inputs), outputs, atol=1e-5)


def test_wrong_names_and_settings_are_named():
    with pytest.raises(InputError, match="choose from cbr"):
        network("resnet50")
    with pytest.raises(InputError, match="colours"):
        network("cbr", colours=3)
    with pytest.raises(InputError, match="too small for CBR: it needs at least 13 by 13"):
        network("cbr", channels=1, classes=2, size=[12, 30])
    for kernels in ([2], [], [0], [-1]):
        with pytest.raises(InputError, match="odd widths"):
            network("text_cnn", vocabulary=20, classes=3, kernels=kernels)
    with pytest.raises(InputError, match="a kernel of at least 1"):
        network("char_lm", vocabulary=20, kernel=0)
