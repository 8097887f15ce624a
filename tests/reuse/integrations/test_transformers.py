"""Hugging Face's own Trainer under a commentary, against a loop written out by hand."""

import copy

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from commentary_hub.commentaries import causal_cross_entropy
from commentary_hub.data import content_keys, target_digests, tokenise
from commentary_hub.errors import InputError, TooFewRows
from commentary_hub.manifest import Iterations
from commentary_hub.reuse import bind, bind_stream
from commentary_hub.reuse.integrations.transformers import commented
from tests.reuse.bound import stored

SIZE, CLASSES, RATE, WORDS = 24, 3, 0.5, 4096
LABELS = np.arange(SIZE) % CLASSES
PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, 8, 8, 3), dtype=np.uint8)
TEXTS = [f"example number {number} of {SIZE}" for number in range(SIZE)]
STAGES = torch.stack([torch.linspace(-3, 3, SIZE), torch.linspace(3, -3, SIZE)], dim=1)


def arguments(folder, **settings):
    defaults = {
        "output_dir": str(folder), "optim": "sgd", "learning_rate": RATE, "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0, "per_device_train_batch_size": 4, "num_train_epochs": 1, "use_cpu": True,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "seed": 1,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(**defaults | settings)


def pictures():
    features = Features({"image": ImageFeature(), "label": ClassLabel(num_classes=CLASSES)})
    rows = {"image": [Image.fromarray(p) for p in PIXELS], "label": LABELS.tolist()}
    table = Dataset.from_dict(rows, features=features)
    return table.with_transform(
        lambda batch: (
            {
                "pixel_values": [torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in batch["image"]],
                "labels": batch["label"],
            }
            | {name: values for name, values in batch.items() if name == "commentary_row"}
        )
    )


def texts():
    features = Features({"text": Value("string"), "label": ClassLabel(num_classes=CLASSES)})
    return Dataset.from_dict({"text": TEXTS, "label": LABELS.tolist()}, features=features)


def tokenised(dataset):
    def tokens(batch):
        return {"input_ids": tokenise(batch["text"], length=8, vocabulary=WORDS).tolist(), "labels": batch["label"]}

    return dataset.map(tokens, batched=True, remove_columns=["text", "label"])


def vit():
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4,
            num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=WORDS, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
            num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=8,
        )
    )  # fmt: skip


class Recorded:
    """The trainer's own collate function, which must never see a row, and the batches it made."""

    def __init__(self):
        self.batches = []

    def __call__(self, samples):
        assert all("commentary_row" not in sample for sample in samples)
        batch = {
            name: torch.stack([torch.as_tensor(s[name]) for s in samples]) for name in samples[0] if name != "image"
        }
        self.batches.append(batch)
        return batch


def by_hand(model, batches, weight_of, *, accumulate):
    """Weighted cross-entropy and plain SGD; ``weight_of(inputs, step)`` tells the weights of a batch."""
    optimiser = torch.optim.SGD(model.train().parameters(), lr=RATE)
    for number, batch in enumerate(batches):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        losses = functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="none")
        weights = weight_of(next(iter(inputs.values())), number // accumulate)
        ((weights * losses).mean() / accumulate).backward()
        if (number + 1) % accumulate == 0:
            optimiser.step()
            optimiser.zero_grad()
    return model


def same_parameters(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(left, right, atol=1e-6) for left, right in pairs)


def weights_by_content(all_inputs, stages):
    """Weights (mean 1 in each stage) of whatever examples come, looked up by their content."""
    places = {bytes(row.numpy().tobytes()): place for place, row in enumerate(all_inputs)}
    table = torch.sigmoid(STAGES[:, :stages])
    table = table / table.double().mean(0)

    def weight_of(inputs, step):
        rows = [places[row.numpy().tobytes()] for row in inputs]
        return table[rows, min(step * stages // 3, stages - 1)].float()

    return weight_of


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_a_vit_trains_as_by_hand_whatever_accumulates(tmp_path, accumulate):
    digests = target_digests(LABELS)
    options = {"stages": 2, "iterations": Iterations(steps=3, batch_size=8)} if accumulate == 2 else {}
    stages = options.get("stages", 1)
    table = stored(tmp_path / "a", content_keys(PIXELS), digests, logits=STAGES[:, :stages], form="image", **options)
    collate, model = Recorded(), vit()
    trainer = commented(Trainer, table)(
        model=model,
        args=arguments(tmp_path, gradient_accumulation_steps=accumulate, remove_unused_columns=False),
        train_dataset=pictures(),
        data_collator=collate,
    )
    trainer.train()
    assert len(collate.batches) == SIZE // 4
    all_inputs = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    expected = by_hand(vit(), collate.batches, weights_by_content(all_inputs, stages), accumulate=accumulate)
    assert same_parameters(model, expected)
    assert not same_parameters(model, by_hand(vit(), collate.batches, lambda *_: 1.0, accumulate=accumulate))


def test_tokenised_text_trains_with_what_was_bound_before(tmp_path):
    table = stored(tmp_path / "a", content_keys(TEXTS), target_digests(LABELS), logits=STAGES[:, :1], form="text")
    collate, model = Recorded(), bert()
    binding = bind(table, texts())
    train_set = tokenised(binding.dataset.shuffle(seed=0))
    trainer = commented(Trainer, binding)(
        model=model, args=arguments(tmp_path), train_dataset=train_set, data_collator=collate
    )
    trainer.train()
    all_inputs = tokenise(TEXTS, length=8, vocabulary=WORDS)
    expected = by_hand(bert(), collate.batches, weights_by_content(all_inputs, 1), accumulate=1)
    assert same_parameters(model, expected)


def test_a_stream_of_text_trains_under_its_rows(tmp_path):
    table = stored(tmp_path / "a", content_keys(TEXTS), target_digests(LABELS), logits=STAGES[:, :1], form="text")
    binding = bind_stream(table, texts().to_iterable_dataset())
    collate, model = Recorded(), bert()
    trainer = commented(Trainer, binding)(
        model=model,
        args=arguments(tmp_path, max_steps=SIZE // 4),
        train_dataset=tokenised(binding.dataset),
        data_collator=collate,
    )
    trainer.train()
    all_inputs = tokenise(TEXTS, length=8, vocabulary=WORDS)
    batches = collate.batches[: SIZE // 4]
    assert same_parameters(model, by_hand(bert(), batches, weights_by_content(all_inputs, 1), accumulate=1))
    assert binding.seen.found == binding.seen.examples == SIZE


def test_evaluation_and_prediction_are_those_of_the_plain_trainer(tmp_path):
    table = stored(tmp_path / "a", content_keys(PIXELS), target_digests(LABELS), logits=STAGES[:, :1], form="image")
    settings = {
        "args": arguments(tmp_path, remove_unused_columns=False),
        "train_dataset": pictures(),
        "eval_dataset": pictures().select(range(6)),
    }
    model = vit()
    weighted = commented(Trainer, table)(model=model, **copy.copy(settings))
    plain = Trainer(model=model, **settings)
    assert weighted.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], abs=1e-6)
    ours, theirs = (trainer.predict(pictures()).predictions for trainer in (weighted, plain))
    assert np.array_equal(ours, theirs)
    assert weighted.binding.step_count == 0


def test_a_causal_language_model_weighs_whole_texts(tmp_path):
    table = stored(
        tmp_path / "a", content_keys(TEXTS), target_digests([None] * SIZE), logits=STAGES[:, :1], form="text"
    )
    binding = bind(table, texts().remove_columns("label"), criterion=causal_cross_entropy)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_embd=8,
            n_layer=1,
            n_head=1,
            n_positions=8,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    tokens = tokenise(TEXTS, length=8, vocabulary=WORDS)
    train_set = binding.dataset.map(
        lambda batch: {
            "input_ids": (ids := tokenise(batch["text"], length=8, vocabulary=WORDS).tolist()),
            "labels": ids,
        },
        batched=True,
        remove_columns=["text"],
    )
    trainer = commented(Trainer, binding)(model=model, args=arguments(tmp_path), train_dataset=train_set)
    batch = {"input_ids": tokens[:5], "labels": tokens[:5], "commentary_row": torch.arange(5)}
    loss = trainer.compute_loss(model.train(), batch).detach()
    weights = torch.sigmoid(STAGES[:, 0])
    logits = model(tokens[:5]).logits.detach()
    each = [functional.cross_entropy(row[:-1], ids[1:]) for row, ids in zip(logits, tokens[:5], strict=True)]
    assert loss.item() == pytest.approx(float((weights[:5] / weights.mean() * torch.stack(each)).mean()), abs=1e-5)


def test_what_a_commentary_would_silently_replace_or_miss_is_refused(tmp_path):
    table = stored(tmp_path / "a", content_keys(PIXELS), target_digests(LABELS), logits=STAGES[:, :1], form="image")
    build = commented(Trainer, table)
    kept = {"remove_unused_columns": False}
    with pytest.raises(InputError, match="label smoothing"):
        build(model=vit(), args=arguments(tmp_path, label_smoothing_factor=0.1, **kept), train_dataset=pictures())
    with pytest.raises(InputError, match="compute_loss_func"):
        build(
            model=vit(),
            args=arguments(tmp_path, **kept),
            train_dataset=pictures(),
            compute_loss_func=lambda *_args, **_settings: 0.0,
        )
    other = pictures().select(range(5))
    with pytest.raises(InputError, match="not the one that was bound"):
        commented(Trainer, bind(table, pictures()))(model=vit(), args=arguments(tmp_path, **kept), train_dataset=other)
    changed = [Image.fromarray(picture // 2) for picture in PIXELS[:6]]
    wrong = Dataset.from_dict({"image": [*changed, Image.fromarray(PIXELS[0])], "label": [0] * 7})
    with pytest.raises(TooFewRows):
        build(model=vit(), args=arguments(tmp_path, **kept), train_dataset=wrong)
