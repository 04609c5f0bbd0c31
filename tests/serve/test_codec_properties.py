"""Whatever is sent comes out as it was, and any bytes are a value or Malformed."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from plait.serve.codec import Limits, Malformed, pack, unpack

examples = settings(
    max_examples=100,
    derandomize=True,  # the same ones every time
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)

DTYPES = st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]).map(np.dtype)
ARRAYS = DTYPES.flatmap(lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0)))
SCALARS = DTYPES.flatmap(st_numpy.from_dtype).map(lambda value: np.asarray(value)[()])
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.binary() | ARRAYS | SCALARS
VALUES = st.recursive(LEAVES, lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=20)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message, some of which is something else."""
    whole = pack(draw(VALUES))
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    return whole[:begin] + draw(st.binary(max_size=8)) + whole[end:]


@examples
@given(VALUES)
def test_what_goes_in_comes_out(value: object) -> None:
    found = unpack(pack(value), Limits(nesting=64))
    np.testing.assert_equal(found, value)
    assert pack(found) == pack(value), "types, dtypes and shapes too"


@examples
@given(st.binary() | damaged())
def test_any_bytes_are_a_value_or_malformed(message: bytes) -> None:
    try:
        found = unpack(message)
    except Malformed:
        return
    again = pack(found)
    assert pack(unpack(again)) == again
