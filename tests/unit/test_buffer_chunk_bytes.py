"""Rows are written as zarr would write them, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec

from quietbeam.buffer.chunk_bytes import chunk_bytes, has_plain_rows
from quietbeam.buffer.layout import CONFIG, ArrayLayout, create_array

LAYOUTS = {
    "counts": ArrayLayout((2, 3, 4, 10), (2, 3, 1, 4), "uint32"),
    "areas": ArrayLayout((2, 3, 4, 10), (2, 3, 1, 10), "float32"),
    "i0": ArrayLayout((4, 10), (1, 4), "float32"),
    "positions": ArrayLayout((2, 4, 10), (2, 1, 4), "float64", np.nan),
    "measured": ArrayLayout((4, 10), (1, 4), "bool"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_chunk_has_the_bytes_that_zarr_writes(tmp_path, name):
    layout = LAYOUTS[name]
    create_array(zarr.open_group(tmp_path, mode="w", zarr_format=3), name, layout)
    array = zarr.open_group(tmp_path, zarr_format=3)[name].with_config(CONFIG)
    assert has_plain_rows(array)
    row = np.random.default_rng(0).poisson(1.5, (*layout.shape[:-2], layout.shape[-1])).astype(layout.dtype)
    array[..., 2, :] = row
    wide = layout.chunks[-1]
    for number, first in enumerate(range(0, layout.shape[-1], wide)):
        folder = (tmp_path / name / "c").joinpath(*["0"] * (len(layout.shape) - 2), "2")
        written = chunk_bytes(array, row[..., None, first : first + wide])
        assert written == (folder / str(number)).read_bytes()


def test_arrays_of_another_layout_are_left_to_zarr(tmp_path):
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    two_rows = group.create_array("two_rows", shape=(4, 10), chunks=(2, 10), dtype="bool")
    gzip = group.create_array("gzip", shape=(4, 10), chunks=(1, 10), dtype="bool", compressors=[GzipCodec()])
    assert not has_plain_rows(two_rows)
    assert not has_plain_rows(gzip)
