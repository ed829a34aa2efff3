"""Which decoder a message goes to."""

import pytest

from bitcert.coding import MessageWriter
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.decode import FAMILIES
from bitcert.errors import DecodeError


def test_a_family_that_is_not_known_is_named():
    message, _ = MessageWriter(99).finish()
    known = ", ".join(map(str, FAMILIES))
    with pytest.raises(
        DecodeError, match=f"^expected a codec family among {known}, got family 99; use a newer bitcert$"
    ):
        decode_message(message, Helper((2,), 2))
