"""Two lines to use a commentary, for each way of training."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from commentary_hub.manifest import Manifest
from commentary_hub_server.rules.catalogue import Entry


@dataclass(frozen=True, slots=True)
class Snippet:
    """A way of using it; ``names`` says which names in the code are the reader's own."""

    key: str
    title: str
    code: str
    names: str = ""


def endpoint_line(base: str) -> str:
    """What a shell needs to be told once, so that the clients ask this hub."""
    return f"export HF_ENDPOINT={shlex.quote(base.rstrip('/'))}"


def export_line(entry: Entry, manifest: Manifest) -> str | None:
    """The command that writes a table's weights beside the reader's own copy of the examples.

    ``None`` inside a dataset's own repository, which the command does not reach.
    """
    identity = manifest.dataset.identity
    if entry.folder:
        return None
    command = ["commentary-hub", "export", f"{entry.repo_id}@{entry.revision}", "weights.csv", "--dataset", identity.id]
    for option, value in (("--config", identity.config), ("--split", identity.split)):
        command += [option, value] if value and (option, value) != ("--split", "train") else []
    return shlex.join(command)


def snippets(entry: Entry) -> list[Snippet]:
    """Code for the commentary at its current revision, so that a copied line stays what it was.

    Whoever copies it runs it: what a stranger named is quoted, for Python and for the shell.
    """
    reference, name = f"{entry.repo_id}@{entry.revision}", entry.folder.rpartition("/")[2]
    inside = f", commentary={json.dumps(name)}" if name else ""
    load = f"load({json.dumps(reference)}{inside})"
    pull = ["commentary-hub", "pull", reference, *(["--commentary", name] if name else [])]
    command = Snippet("cli", "Command line", shlex.join(pull))
    match entry.kind:
        case "example_weights" | "weight_network" | "label_blend":
            return [*_training(load, _PYTORCH), command]
        case "attention_mask":
            return [*_training(load, _PYTORCH_MASK), command]
        case "mixture_weights":
            yours = "parts are yours: the name of each source, and its dataset (streams too)"
            return [Snippet("datasets", "Datasets", _MIXTURE.format(load=load), yours), command]
        case "support_weights":
            yours = "learner, support_inputs and support_targets are yours"
            return [Snippet("pytorch", "PyTorch", _SUPPORT.format(load=load), yours), command]
        case _:
            return [Snippet("python", "Python", _LOAD.format(load=load)), command]


def _training(load: str, pytorch: str) -> list[Snippet]:
    return [
        Snippet("pytorch", "PyTorch", pytorch.format(load=load), _YOURS),
        Snippet("trainer", "Trainer", _TRAINER.format(load=load), "model, arguments and dataset are yours"),
        Snippet("lightning", "Lightning", _LIGHTNING.format(load=load), "trainer, module and loader are yours"),
    ]


_YOURS = (
    "dataset, student and optimizer are yours; where its samples are dictionaries, so are batches, "
    'and rows are batch["commentary_row"]'
)
_LOAD = """from commentary_hub import load

commentary = {load}.commentary"""
_PYTORCH = """from commentary_hub import bind, load
from torch.utils.data import DataLoader

binding = bind({load}, dataset)
for inputs, targets, rows in DataLoader(binding, batch_size=64, shuffle=True):
    optimizer.zero_grad()
    binding.loss(student, inputs, targets, rows).backward()
    optimizer.step()"""
_PYTORCH_MASK = """from commentary_hub import bind, load
from commentary_hub.reuse import at_inference
from torch.utils.data import DataLoader

mask = {load}
binding = bind(mask, dataset)
for inputs, targets, rows in DataLoader(binding, batch_size=64, shuffle=True):
    optimizer.zero_grad()
    binding.loss(student, inputs, targets, rows).backward()
    optimizer.step()
student = at_inference(mask, student)  # it has learned to see masked pictures"""
_TRAINER = """from commentary_hub import load
from commentary_hub.reuse.integrations.transformers import commented
from transformers import Trainer

CommentedTrainer = commented(Trainer, {load})
CommentedTrainer(model=model, args=arguments, train_dataset=dataset).train()"""
_LIGHTNING = """from commentary_hub import load
from commentary_hub.reuse.integrations.lightning import commented

trainer.fit(*commented(module, loader, {load}))"""
_MIXTURE = """from commentary_hub import load
from commentary_hub.reuse import interleave

mixture = {load}
mixed = interleave(mixture, {{source: parts[source] for source in mixture.commentary.sources}}, seed=0)"""
_SUPPORT = """from commentary_hub import load
from commentary_hub.commentaries import Batch, commented_loss

weights = {load}.commentary
support = weights(Batch(support_inputs, support_targets), progress=0.0)
loss = commented_loss(learner(support.inputs), support, reduction="mean")"""
