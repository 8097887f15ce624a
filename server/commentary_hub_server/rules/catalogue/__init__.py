"""The catalogue: what people find and see of commentaries. No web framework inside; every question names its viewer."""

from commentary_hub_server.rules.catalogue._cards import render_card_html
from commentary_hub_server.rules.catalogue._difference import FileChange, difference
from commentary_hub_server.rules.catalogue._entries import Entry, describe
from commentary_hub_server.rules.catalogue._reading import Commentary, read_commentary, tensor_file
from commentary_hub_server.rules.catalogue._rows import Row, RowTable, arrow_stream, rows_by_key, rows_by_range, weights
from commentary_hub_server.rules.catalogue._safetensors import Header, TensorView, find_row, read_header, read_rows
from commentary_hub_server.rules.catalogue._search import (
    STRANGER,
    Catalogue,
    DatasetLine,
    Page,
    Query,
    Sort,
    Viewer,
)
from commentary_hub_server.rules.catalogue._shelf import Accounts, Revision, Shelf, StoredFile, TokenLine
from commentary_hub_server.rules.catalogue._text import PostgresText, SqliteText, TextIndex, text_index, words

__all__ = [
    "STRANGER",
    "Accounts",
    "Catalogue",
    "Commentary",
    "DatasetLine",
    "Entry",
    "FileChange",
    "Header",
    "Page",
    "PostgresText",
    "Query",
    "Revision",
    "Row",
    "RowTable",
    "Shelf",
    "Sort",
    "SqliteText",
    "StoredFile",
    "TensorView",
    "TextIndex",
    "TokenLine",
    "Viewer",
    "arrow_stream",
    "describe",
    "difference",
    "find_row",
    "read_commentary",
    "read_header",
    "read_rows",
    "render_card_html",
    "rows_by_key",
    "rows_by_range",
    "tensor_file",
    "text_index",
    "weights",
    "words",
]
