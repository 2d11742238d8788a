"""Keys, seen from Python: made in Rust, silent about secrets."""

import copy
import pickle

import pytest
from wgengine.errors import ConfigError
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

# a pair that `wg genkey | wg pubkey` made
SECRET = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="
PUBLIC = "Uz7Bb/Um7GyuPznoUjjBe1vDlGSI88nJ3GesVkaj8lA="


def test_a_private_key_has_the_public_half_that_wg_pubkey_prints():
    assert PrivateKey.from_base64(SECRET).public_key == PublicKey.from_base64(PUBLIC)


@pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])
def test_a_secret_comes_out_only_where_it_is_asked_for(kind):
    key = kind.from_base64(SECRET)
    assert key.to_base64() == SECRET
    assert kind.from_hex(key.to_hex()) == key
    for shown in (str(key), repr(key), f"{key}", f"{[key]}"):
        assert SECRET not in shown
        assert key.to_hex() not in shown.lower()


@pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])
def test_a_secret_is_neither_pickled_nor_copied(kind):
    key = kind.from_base64(SECRET)
    with pytest.raises(TypeError) as caught:
        pickle.dumps(key)
    assert SECRET not in str(caught.value)
    # a copy is the same object: the secret stays in one place
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key


def test_generated_keys_differ():
    assert len({PrivateKey.generate().public_key for _ in range(10)}) == 10
    assert PresharedKey.generate() != PresharedKey.generate()


def test_a_public_key_is_hashable_ordered_and_itself_after_a_copy():
    a, b = PublicKey.from_bytes(bytes(31) + b"\1"), PublicKey.from_bytes(bytes(31) + b"\2")
    assert sorted([b, a]) == [a, b]
    assert {a: 1}[PublicKey.from_base64(a.to_base64())] == 1
    assert copy.deepcopy(a) == a
    assert str(a) == a.to_base64()
    assert bytes(a) == bytes(31) + b"\1"


@pytest.mark.parametrize("kind", [PrivateKey, PublicKey, PresharedKey])
@pytest.mark.parametrize(
    "text", ["", SECRET[:-1], SECRET[:-2] + "Z=", SECRET + "A", SECRET[:20] + " " + SECRET[20:], "ä" * 44]
)
def test_a_malformed_key_is_refused_and_not_echoed(kind, text):
    with pytest.raises(ConfigError) as caught:
        kind.from_base64(text)
    assert not text or text not in str(caught.value)


def test_low_order_points_are_known():
    assert PublicKey.from_bytes(bytes(32)).is_low_order()
    assert PublicKey.from_bytes(b"\1" + bytes(31)).is_low_order()
    assert not PublicKey.from_base64(PUBLIC).is_low_order()


def test_the_zero_preshared_key_is_known():
    assert PresharedKey.from_hex("00" * 32).is_zero()
    assert not PresharedKey.generate().is_zero()
