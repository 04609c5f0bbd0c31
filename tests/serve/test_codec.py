"""The codec: what goes in comes out, openpi's own client understands it, and what is wrong is told in one sentence."""

import msgpack
import numpy as np
import pytest

from plait.serve.codec import Limits, Malformed, pack, unpack

openpi = pytest.importorskip("openpi_client.msgpack_numpy", reason="needs openpi-client, see the Makefile")

VALUES = {
    "text": "빨간 공을 집어줘",
    "numbers": [0, -1, 2**63, 0.5, True, None],
    "image": np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3),
    "state": np.array([1.5, np.nan, -np.inf], np.float32),
    "double": np.linspace(0, 1, 5),
    "half": np.array([0.5], np.float16),
    "lone flag": np.array(True),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 7), np.int64),
    "alone": np.array(3, np.int16),
    "scalar": np.float32(0.25),
    "flag": np.bool_(True),
    "below": {"deep": [np.int8(-3)]},
}


def same(a: object, b: object) -> None:
    if isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert type(a) is type(b)
        if isinstance(a, (np.ndarray, np.generic)):
            assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_what_goes_in_comes_out() -> None:
    same(unpack(pack(VALUES)), VALUES)
    assert not unpack(pack(VALUES))["image"].flags.writeable


def test_what_cannot_be_packed_leaves_nothing_behind() -> None:
    for wrong, error in (([1, object()], TypeError), ([1, np.array(["a"])], ValueError), ([1, 2**64], TypeError)):
        with pytest.raises(error):
            pack(wrong)
        assert pack(VALUES) == openpi.packb(VALUES)


def test_openpi_and_plait_understand_each_other() -> None:
    assert pack(VALUES) == openpi.packb(VALUES)
    same(unpack(openpi.packb(VALUES)), openpi.unpackb(pack(VALUES)))


def test_the_byte_order_of_the_sender_does_not_matter() -> None:
    big = np.arange(3, dtype=">f4")
    found = unpack(pack(big))
    assert found.dtype == np.float32 and found.dtype.isnative
    np.testing.assert_array_equal(found, big)


def array(**changes: object) -> bytes:
    whole = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2]}
    table = {key.encode(): value for key, value in {**whole, **changes}.items() if value is not ...}
    return msgpack.packb({"a": table})


def scalar(data: object, dtype: str) -> bytes:
    return msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype})


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"", "not msgpack with numpy arrays"),
        (b"\xc1", "not msgpack"),
        (msgpack.packb({"a": 1})[:-1], "incomplete input"),
        (msgpack.packb({}) + b"\x00", "extra data"),
        (b"\xa1\xff", "can't decode byte"),
        (msgpack.packb({1: 2}), "int is not allowed for map key"),
        (msgpack.packb({b"a": 2}), "key b'a' is bytes, expected text"),
        (b"\x82\xa1a\x01\xa1a\x02", "a key comes twice"),
        (msgpack.packb(msgpack.ExtType(5, b"x")), "exceeds max_ext_len"),
        (msgpack.packb(msgpack.Timestamp(1)), "exceeds max_ext_len"),
        (b"\x91" * 9 + b"\xc0", "too deep in each other"),
        (b"\x91" * 100_000 + b"\xc0", "StackError"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (msgpack.packb([[0] * 1000, [0] * 1000]), "more than 1024 entries"),
        (msgpack.packb([[] for _ in range(1024)]), "more than 1024 entries"),
        (b"\xc6\xff\xff\xff\xff", "incomplete input"),
        (array(dtype="|O"), "dtype '|O'; only bool, integers and floats"),
        (array(dtype="<c8"), "dtype '<c8'; only"),
        (array(dtype="|V8"), "dtype '|V8'; only"),
        (array(dtype="<U2"), "dtype '<U2'; only"),
        (array(dtype="<f16"), "dtype '<f16'; only"),
        (array(dtype="f4,f4"), "dtype 'f4,f4'; only"),
        (array(dtype=[["a", "<f4"]]), "only bool, integers"),
        (array(shape=[3]), "8 bytes are not shape [3] of <f4"),
        (array(shape=[1]), "8 bytes are not shape [1] of <f4"),
        (array(shape=[-1, -2]), "shape [-1, -2]; expected at most 8 whole numbers from 0"),
        (array(shape=[2.0]), "shape [2.0]; expected"),
        (array(shape=[True, 2]), "shape [True, 2]; expected"),
        (array(shape=[1] * 9), "expected at most 8 whole numbers"),
        (array(shape=[0] + [2**24] * 7, data=b""), "array is too big"),
        (array(shape=2), "shape 2; expected"),
        (array(data="12345678"), "data is str, expected bytes"),
        (array(data=...), "array: keys"),
        (array(more=1), "array: keys"),
        (scalar(300, "|u1"), "scalar: 300 is beyond uint8"),
        (scalar(1.5, "<i4"), "scalar: 1.5 is no int32"),
        (scalar("1", "<f4"), "scalar: '1' is no float32"),
        (scalar(1, "|b1"), "scalar: 1 is no bool"),
        (scalar(True, "<f4"), "scalar: True is no float32"),
        (scalar([1], "<f4"), "scalar: [1] is no float32"),
    ],
)
def test_what_is_wrong_is_told(message: bytes, sentence: str) -> None:
    with pytest.raises(Malformed) as error:
        unpack(message)
    assert sentence in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_byte_that_is_no_bool_becomes_true() -> None:
    assert unpack(array(dtype="|b1", data=b"\x00\x07"))["a"].view(np.uint8).tolist() == [0, 1]


def test_limits() -> None:
    assert unpack(pack([[1]]), Limits(bytes=3, nesting=2, entries=5)) == [[1]]
    for limits in (Limits(bytes=2), Limits(nesting=1), Limits(entries=3)):
        with pytest.raises(Malformed):
            unpack(pack([[1]]), limits)


@pytest.mark.parametrize("value", [np.array([1j]), np.array(["a"]), np.array([object()]), np.zeros(1, "f4,f4")])
def test_what_cannot_be_sent(value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be sent; bool, integers and floats can"):
        pack(value)
    with pytest.raises(TypeError, match="object cannot be sent"):
        pack(object())
