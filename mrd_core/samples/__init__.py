"""Forget sets: reading, column mapping, validation, stable ids and digests.

`read` and `read_upload` do all of it. A page that shows the raw rows first takes the steps one by one:
`load_table` or `table_from_upload`, then `guess`, then `to_forget_set`.
"""

from mrd_core.samples.forget_set import ForgetSet, ValidationReport, evenly_spaced
from mrd_core.samples.layouts import guess
from mrd_core.samples.reading import Table, read_table, table_from_upload
from mrd_core.samples.sources import load_table, read, read_split, read_upload
from mrd_core.samples.strata import save_stratum, saved_strata
from mrd_core.samples.validation import to_forget_set

__all__ = [
    "ForgetSet",
    "Table",
    "ValidationReport",
    "evenly_spaced",
    "guess",
    "load_table",
    "read",
    "read_split",
    "read_table",
    "read_upload",
    "save_stratum",
    "saved_strata",
    "table_from_upload",
    "to_forget_set",
]
