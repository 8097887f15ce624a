"""Two lines to use a commentary, for each way of training."""

from __future__ import annotations

from dataclasses import dataclass

from commentary_hub_server.rules.catalogue import Entry

_LOSS_KINDS = frozenset({"example_weights", "weight_network", "label_blend", "attention_mask"})


@dataclass(frozen=True, slots=True)
class Snippet:
    """A way of using it; ``names`` says which names in the code are the reader's own."""

    key: str
    title: str
    code: str
    names: str = ""


def endpoint_line(base: str) -> str:
    """What a shell needs to be told once, so that the clients ask this hub."""
    return f"export HF_ENDPOINT={base.rstrip('/')}"


def snippets(entry: Entry) -> list[Snippet]:
    """Code for the commentary at its current revision, so that a copied line stays what it was."""
    reference = f'"{entry.repo_id}@{entry.revision}"'
    inside = f', commentary="{entry.folder.rpartition("/")[2]}"' if entry.folder else ""
    load = f"load({reference}{inside})"
    pull = f"commentary-hub pull {entry.repo_id}@{entry.revision}"
    if entry.folder:
        pull += f" --commentary {entry.folder.rpartition('/')[2]}"
    command = Snippet("cli", "Command line", pull)
    if entry.kind == "mixture_weights":
        return [Snippet("datasets", "Datasets", _MIXTURE.format(load=load), "sources: your datasets by name"), command]
    if entry.kind not in _LOSS_KINDS:
        return [Snippet("python", "Python", _LOAD.format(load=load)), command]
    return [
        Snippet("pytorch", "PyTorch", _PYTORCH.format(load=load), "dataset, student and optimizer are yours"),
        Snippet("trainer", "Trainer", _TRAINER.format(load=load), "model, arguments and dataset are yours"),
        Snippet("lightning", "Lightning", _LIGHTNING.format(load=load), "trainer, module and loader are yours"),
        command,
    ]


_LOAD = """from commentary_hub import load

commentary = {load}.commentary"""
_PYTORCH = """from commentary_hub import bind, load
from torch.utils.data import DataLoader

binding = bind({load}, dataset)
for inputs, targets, rows in DataLoader(binding, batch_size=64, shuffle=True):
    optimizer.zero_grad()
    binding.loss(student, inputs, targets, rows).backward()
    optimizer.step()"""
_TRAINER = """from commentary_hub import load
from commentary_hub.reuse.integrations.transformers import commented
from transformers import Trainer

CommentedTrainer = commented(Trainer, {load})
CommentedTrainer(model=model, args=arguments, train_dataset=dataset).train()"""
_LIGHTNING = """from commentary_hub import load
from commentary_hub.reuse.integrations.lightning import commented

trainer.fit(*commented(module, loader, {load}))"""
_MIXTURE = """from commentary_hub import load
from datasets import interleave_datasets

shares = {load}.commentary.probabilities(list(sources))
mixed = interleave_datasets(list(sources.values()), probabilities=list(shares.values()))"""
