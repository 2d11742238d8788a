"""Values and errors as JSON has them."""

from __future__ import annotations

import pytest
from wgengine.control.values import error_of, plain, plain_error
from wgengine.errors import (
    Error,
)
from wgengine.keys import PresharedKey, PrivateKey


def test_error_of_a_later_version_is_an_error() -> None:
    assert type(error_of({"type": "TomorrowError", "message": "m"})) is Error
    assert type(error_of("?")) is Error


@pytest.mark.parametrize("secret", [PrivateKey.generate(), PresharedKey.generate()])
def test_secret_is_never_told(secret: object) -> None:
    for value in (secret, [secret], {"x": secret}):
        with pytest.raises(TypeError, match="told to nobody"):
            plain(value)


def test_group_without_members_is_still_an_error() -> None:
    assert isinstance(error_of({"type": "ReconfigError", "message": "m"}), Error)
    assert plain_error(ValueError("hush"))["message"] == "a fault of wgengine (ValueError); its log has more"
