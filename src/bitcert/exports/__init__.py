"""EXPORT: a certified classifier in the formats of others, its certificate in the file. Nothing is certified here."""

from bitcert.exports.agreement import Agreement
from bitcert.exports.files import Export, export, is_export
from bitcert.exports.formats import Format
from bitcert.exports.hub import model_card, push_to_hub, save_pretrained

__all__ = [
    "Agreement",
    "Export",
    "Format",
    "export",
    "is_export",
    "model_card",
    "push_to_hub",
    "save_pretrained",
]
