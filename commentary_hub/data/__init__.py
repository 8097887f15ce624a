"""Datasets as the learner sees them: opened, keyed by content, split.

Every example has a content key that survives files, orders and transforms (`content_key`); `open_examples` brings a
dataset into memory as `Examples`; `split_examples` and `check_disjoint` make and check splits; `raw_examples` reads
what a dataset holds before its transforms.
"""

from commentary_hub.data._cache import cache_folder, keep
from commentary_hub.data._columns import ROW
from commentary_hub.data._corruption import LabelNoise, corrupt_labels, long_tailed
from commentary_hub.data._examples import IGNORED, Examples, fingerprint
from commentary_hub.data._keyed import dataset_keys
from commentary_hub.data._keys import (
    Form,
    Keys,
    content_form,
    content_key,
    content_keys,
    salt_check,
    target_digest,
    target_digests,
)
from commentary_hub.data._open import LOCAL_COPIES, open_examples, open_raw
from commentary_hub.data._raw import RawExamples, Wrapping, raw_examples
from commentary_hub.data._splits import (
    check_comparable,
    check_disjoint,
    check_same_classes,
    shared_keys,
    split_examples,
)
from commentary_hub.data._stream import StreamReader, numbered
from commentary_hub.data._targets import class_indices, class_names
from commentary_hub.data._text import CHARACTERS, characters, tokenise

__all__ = [
    "CHARACTERS",
    "IGNORED",
    "LOCAL_COPIES",
    "ROW",
    "Examples",
    "Form",
    "Keys",
    "LabelNoise",
    "RawExamples",
    "StreamReader",
    "Wrapping",
    "cache_folder",
    "characters",
    "check_comparable",
    "check_disjoint",
    "check_same_classes",
    "class_indices",
    "class_names",
    "content_form",
    "content_key",
    "content_keys",
    "corrupt_labels",
    "dataset_keys",
    "fingerprint",
    "keep",
    "long_tailed",
    "numbered",
    "open_examples",
    "open_raw",
    "raw_examples",
    "salt_check",
    "shared_keys",
    "split_examples",
    "target_digest",
    "target_digests",
    "tokenise",
]
