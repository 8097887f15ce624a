"""The catalogue: what people find and see of commentaries. No web framework inside; every question names its viewer."""

from commentary_hub_server.rules.catalogue._cards import PICTURE_ENDINGS, render_card_html
from commentary_hub_server.rules.catalogue._difference import FileChange, difference
from commentary_hub_server.rules.catalogue._entries import Entry, describe
from commentary_hub_server.rules.catalogue._reading import Commentary, read_commentary, tensor_file
from commentary_hub_server.rules.catalogue._rows import Row, RowTable, arrow_stream, rows_by_key, rows_by_range
from commentary_hub_server.rules.catalogue._safetensors import Header, TensorView, find_row, read_header, read_rows
from commentary_hub_server.rules.catalogue._samples import Sample, SampleSheet, read_sample_sheet
from commentary_hub_server.rules.catalogue._search import (
    STRANGER,
    Catalogue,
    DatasetLine,
    Page,
    Query,
    Sort,
    Viewer,
)
from commentary_hub_server.rules.catalogue._shelf import Accounts, Place, Revision, Shelf, StoredFile, TokenLine
from commentary_hub_server.rules.catalogue._text import PostgresText, SqliteText, TextIndex, text_index, words
from commentary_hub_server.rules.catalogue._values import (
    BlendTable,
    WeightTable,
    blend_table,
    mixture_shares,
    target_digest,
    weight_table,
)

__all__ = [
    "PICTURE_ENDINGS",
    "STRANGER",
    "Accounts",
    "BlendTable",
    "Catalogue",
    "Commentary",
    "DatasetLine",
    "Entry",
    "FileChange",
    "Header",
    "Page",
    "Place",
    "PostgresText",
    "Query",
    "Revision",
    "Row",
    "RowTable",
    "Sample",
    "SampleSheet",
    "Shelf",
    "Sort",
    "SqliteText",
    "StoredFile",
    "TensorView",
    "TextIndex",
    "TokenLine",
    "Viewer",
    "WeightTable",
    "arrow_stream",
    "blend_table",
    "describe",
    "difference",
    "find_row",
    "mixture_shares",
    "read_commentary",
    "read_header",
    "read_rows",
    "read_sample_sheet",
    "render_card_html",
    "rows_by_key",
    "rows_by_range",
    "target_digest",
    "tensor_file",
    "text_index",
    "weight_table",
    "words",
]
