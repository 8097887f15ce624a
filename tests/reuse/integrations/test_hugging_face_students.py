"""Hugging Face models as students: behind masks, in a pipeline and a Trainer, and in a loss of one's own."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

from commentary_hub.commentaries import AttentionMask
from commentary_hub.errors import InputError
from commentary_hub.reuse import at_inference, bind
from tests.reuse.test_kinds import DATA, SIZE, X, Y, kept, mask, student, table


def transformer(channels=1):
    torch.manual_seed(0)
    shape = {"image_size": 8, "patch_size": 4, "num_channels": channels, "num_labels": 3}
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return ViTForImageClassification(ViTConfig(**shape, **size)).eval()


def test_a_hugging_face_student_is_called_and_described_behind_masks_as_it_is_without(tmp_path):
    one, model = mask(tmp_path / "mask"), transformer()
    used, masked = at_inference(one, model), X * one.commentary.mask(X)
    expected = model(pixel_values=masked, labels=Y)
    for found in (used(pixel_values=X, labels=Y), used(X, labels=Y), used(labels=Y, pixel_values=X)):
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.loss, expected.loss)
    assert (used.config, used.dtype, used.device) == (model.config, torch.float32, model.device)
    assert used.main_input_name == "pixel_values"
    assert not hasattr(used, "generate")
    assert not hasattr(at_inference(one, student()), "config")
    for given in ({"images": X}, {}):
        with pytest.raises(InputError, match=r"(images|no argument) given by name.*as the first argument"):
            used(**given)


def test_a_pipeline_takes_a_student_behind_masks(tmp_path):
    torch.manual_seed(1)
    one = kept(tmp_path / "mask", AttentionMask(channels=3, sigma=2.0, settings={"width": 2}))
    model, pixels = transformer(channels=3), np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    processor = ViTImageProcessor(size={"height": 8, "width": 8})
    used = at_inference(one, model)
    answers = pipeline("image-classification", model=used, image_processor=processor)(Image.fromarray(pixels))
    inputs = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    expected = model(inputs * one.commentary.mask(inputs)).logits.detach().softmax(1)[0]
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(
        {f"LABEL_{number}": float(share) for number, share in enumerate(expected)}, rel=1e-5
    )


def test_a_trainer_evaluates_a_student_behind_masks(tmp_path):
    one, model = mask(tmp_path / "mask"), transformer()
    data = Dataset.from_dict({"pixel_values": X.tolist(), "labels": Y.tolist()}).with_format("torch")
    read_off_the_class = {"remove_unused_columns": False, "label_names": ["labels"]}
    how = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **read_off_the_class)
    found = Trainer(at_inference(one, model), how, eval_dataset=data).evaluate()["eval_loss"]
    expected = model(X * one.commentary.mask(X), labels=Y).loss.item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_student_may_return_what_hugging_face_models_do(tmp_path):
    rows, model = torch.arange(SIZE), transformer()
    binding = bind([table(tmp_path / "table"), mask(tmp_path / "mask")], DATA)
    expected = binding.loss(lambda inputs: model(inputs).logits, X, Y, rows).item()
    for found in (model, lambda inputs: {"logits": model(inputs).logits}):
        assert binding.loss(found, X, Y, rows).item() == pytest.approx(expected)
    for returned, words in (
        (lambda inputs: (inputs, Y), "a tuple, expected logits"),
        (lambda inputs: {"features": inputs, "loss": 0.0}, "a dict of features, loss, expected logits"),
        (lambda inputs: {"logits": None}, "a dict of logits, expected logits"),
    ):
        with pytest.raises(InputError, match=words):
            binding.loss(returned, X, Y, rows)
