"""People's own trainers, models and datasets under a commentary: what is right, and what is refused."""

import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration, Trainer

from commentary_hub.artefact import load, save
from commentary_hub.commentaries import LabelBlend, token_cross_entropy
from commentary_hub.data import content_keys, target_digests, tokenise
from commentary_hub.errors import InputError
from commentary_hub.manifest import DatasetBinding, KeyScheme
from commentary_hub.reuse import bind
from commentary_hub.reuse.integrations.transformers import commented
from tests.reuse.bound import stored, table_dataset
from tests.reuse.integrations.test_transformers import (
    LABELS,
    SIZE,
    STAGES,
    TEXTS,
    WORDS,
    arguments,
    same_parameters,
    texts,
)


class Linear(torch.nn.Module):
    """A model as users write their own; ``seen`` are the labels that its forward was given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(5, 4)
        self.seen = []

    def forward(self, x, labels=None):
        self.seen.append(labels)
        logits = self.layer(x)
        return (
            {"logits": logits}
            if labels is None
            else {"loss": functional.cross_entropy(logits, labels), "logits": logits}
        )


class Renamed(Linear):
    def forward(self, x, goal=None):
        return super().forward(x, goal)


class Needing(Linear):
    def forward(self, x, labels):
        return super().forward(x, labels)


def numbers(name="labels"):
    return table_dataset().rename_column("label", name)


def trained(folder, build, model, dataset, **settings):
    trainer = build(
        model=model, args=arguments(folder, per_device_train_batch_size=50, **settings), train_dataset=dataset
    )
    trainer.train()
    return trainer


def test_a_loss_of_the_trainers_own_is_refused(tmp_path):
    class Focal(Trainer):
        def compute_loss(self, *args, **settings):
            return super().compute_loss(*args, **settings)

    with pytest.raises(InputError, match="Focal has a compute_loss of its own"):
        commented(Focal, stored(tmp_path / "a"))


def test_training_batches_without_rows_are_refused(tmp_path):
    class Own(Trainer):
        def get_train_dataloader(self):
            keep = lambda samples: {name: torch.tensor([s[name] for s in samples]) for name in ("x", "labels")}
            return DataLoader(self.train_dataset, batch_size=10, collate_fn=keep)

    with pytest.raises(InputError, match="a training batch has x, labels, but no commentary_row"):
        trained(tmp_path, commented(Own, stored(tmp_path / "a")), Linear(), numbers())


def test_rows_that_an_earlier_binding_left_are_not_taken_for_the_new_ones(tmp_path):
    table = stored(tmp_path / "a")
    left = bind(table, numbers()).dataset.shuffle(seed=3).select(range(150))
    models = [
        trained(tmp_path, commented(Trainer, table), Linear(), dataset).model
        for dataset in (left, left.remove_columns("commentary_row"))
    ]
    assert same_parameters(*models)


def test_labels_have_the_name_that_the_trainer_was_told(tmp_path):
    build = commented(Trainer, stored(tmp_path / "a"))
    expected = trained(tmp_path, build, Linear(), numbers()).model
    options = commented(Trainer, stored(tmp_path / "b"), targets="goal")
    found = trained(tmp_path, options, Renamed(), numbers("goal"), label_names=["goal"]).model
    assert same_parameters(found, expected)
    assert set(found.seen) == {None}, "what the model makes of labels is not asked for"
    with pytest.raises(InputError, match=r"a batch has x, and no labels: name the one"):
        trained(tmp_path, options, Linear(), numbers("goal"))


def test_a_model_that_cannot_do_without_labels_gets_them(tmp_path):
    build = commented(Trainer, stored(tmp_path / "a"))
    assert same_parameters(*(trained(tmp_path, build, model(), numbers()).model for model in (Linear, Needing)))


def test_a_decoder_is_given_what_comes_before_each_label(tmp_path):
    table = stored(tmp_path / "a", content_keys(TEXTS), target_digests(LABELS), logits=STAGES[:, :1], form="text")
    binding = bind(table, texts(), criterion=token_cross_entropy)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=WORDS, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0,
                 decoder_start_token_id=0)
    )  # fmt: skip
    tokens = tokenise(TEXTS, length=8, vocabulary=WORDS)
    trainer = commented(Trainer, binding)(model=model, args=arguments(tmp_path), train_dataset=binding.dataset)
    batch = {"input_ids": tokens[:5], "labels": tokens[:5, :4].contiguous(), "commentary_row": torch.arange(5)}
    loss = trainer.compute_loss(model.train(), batch).detach()
    logits = model(input_ids=tokens[:5], labels=tokens[:5, :4].contiguous()).logits
    weights = torch.sigmoid(STAGES[:, 0])
    expected = (weights[:5] / weights.mean() * token_cross_entropy(logits, tokens[:5, :4])).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_trainer_without_training_data_evaluates(tmp_path):
    settings = {"model": Linear(), "args": arguments(tmp_path), "eval_dataset": numbers()}
    found = commented(Trainer, stored(tmp_path / "a"))(**settings).evaluate()["eval_loss"]
    assert found == pytest.approx(Trainer(**settings).evaluate()["eval_loss"], abs=1e-6)


@pytest.mark.parametrize("kept", [True, False])
def test_rows_reach_no_model_in_evaluation_and_prediction(tmp_path, kept):
    split = bind(stored(tmp_path / "a"), numbers()).dataset
    trainer = commented(Trainer, stored(tmp_path / "b"))(
        model=Linear(), args=arguments(tmp_path, remove_unused_columns=not kept), train_dataset=numbers()
    )
    bare = split.remove_columns("labels")
    assert trainer.predict(bare).predictions.shape == (200, 4)
    assert trainer.evaluate(split)["eval_loss"] == pytest.approx(trainer.evaluate(numbers())["eval_loss"])


def test_evaluation_counts_tokens_as_the_plain_trainer_does(tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_embd=8, n_layer=1, n_head=1, n_positions=8))
    tokens = tokenise(TEXTS, length=8, vocabulary=WORDS)
    labels = tokens.masked_fill(torch.arange(8) > 3 + torch.arange(SIZE)[:, None] % 4, -100)
    held = Dataset.from_dict({"input_ids": tokens.tolist(), "labels": labels.tolist()})
    settings = {"model": model, "args": arguments(tmp_path), "eval_dataset": held}
    ours, plain = (build(**settings).evaluate()["eval_loss"] for build in (
        commented(Trainer, stored(tmp_path / "a")), Trainer))  # fmt: skip
    assert ours == pytest.approx(plain, rel=1e-6)


def test_partners_of_a_blend_are_the_same_after_resuming(tmp_path):
    blend = LabelBlend(4)
    torch.nn.init.normal_(blend.logits)
    binding = DatasetBinding(identity={"id": "some/rows"}, rows=200, key=KeyScheme(form="none"))
    save(tmp_path / "blend", blend, name="blend", dataset=binding, loss_reduction="mean")
    build = commented(Trainer, load(tmp_path / "blend"))
    settings = {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 3,
                "save_only_model": False}  # fmt: skip
    whole = trained(tmp_path / "runs", build, Linear(), numbers(), **settings)
    again = build(
        model=Linear(), args=arguments(tmp_path / "runs", per_device_train_batch_size=50, **settings),
        train_dataset=numbers(),
    )  # fmt: skip
    again.train(resume_from_checkpoint=str(tmp_path / "runs" / "checkpoint-3"))
    assert again.binding.step_count == whole.binding.step_count == 8
    assert same_parameters(again.model, whole.model)
