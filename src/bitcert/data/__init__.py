"""Data: finite samples with a role and a content hash, and the readers that make them.

Not guaranteed: that a sample is a set of independent draws; that is the user's word, and the certificate says so.
"""

from bitcert.data.apart import check_apart, count_shared_examples
from bitcert.data.download import Progress, download_openml
from bitcert.data.load import load_sample, schema_like, shaped_like, to_sample
from bitcert.data.names import NAMES, benchmark_name, is_original
from bitcert.data.peeking import peek, peek_shape
from bitcert.data.sample import Role, Sample
from bitcert.data.schema import Column, Schema, Table
from bitcert.data.schema_file import load_schema
from bitcert.data.split import PriorSplit, split_prior
from bitcert.data.torch_data import sample_from_torch

__all__ = [
    "NAMES",
    "Column",
    "PriorSplit",
    "Progress",
    "Role",
    "Sample",
    "Schema",
    "Table",
    "benchmark_name",
    "check_apart",
    "count_shared_examples",
    "download_openml",
    "is_original",
    "load_sample",
    "load_schema",
    "peek",
    "peek_shape",
    "sample_from_torch",
    "schema_like",
    "shaped_like",
    "split_prior",
    "to_sample",
]
