"""MATLAB's files: what SciPy writes is read with the same values, and what is damaged is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from wsss.datasets.mat_file import MatFile

SIZES = ((1, 1), (2, 2), (37, 53), (500, 375))


def saved(labels: np.ndarray, compressed: bool = False, **more: object) -> bytes:
    """Return a file as SBD has them: cells of sparse outlines, the labels, and the classes."""
    outlines = np.empty((20, 1), object)
    for number in range(20):
        outlines[number, 0] = csc_matrix(np.eye(5) > 0)
    content = {"Boundaries": outlines, "Segmentation": labels, "CategoriesPresent": 4.0}
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": {**content, **more}, "x": 3}, do_compression=compressed)
    return buffer.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_labels_are_read_as_they_were_saved(size: tuple[int, int], compressed: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 21, size).astype(np.uint8)
    content = saved(labels, compressed)
    assert (MatFile(content).values("GTcls", "Segmentation") == labels).all()


def test_what_is_no_matrix_of_bytes_is_refused() -> None:
    content = saved(np.ones((3, 4)))
    with pytest.raises(ValueError, match="Segmentation is no matrix of bytes"):
        MatFile(content).values("GTcls", "Segmentation")
    for name, field in (("x", "Segmentation"), ("y", "Segmentation"), ("GTcls", "Masks")):
        with pytest.raises(ValueError, match="no structure|no field"):
            MatFile(content).values(name, field)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_is_cut_is_refused(compressed: bool) -> None:
    content = saved(np.ones((30, 40), np.uint8), compressed)
    for size in (0, 100, 130, 300, len(content) // 2):
        with pytest.raises((ValueError, struct.error, zlib.error)):
            MatFile(content[:size]).values("GTcls", "Segmentation")


def test_an_element_that_grows_without_end_is_refused() -> None:
    bomb = zlib.compress(bytes(1 << 27))
    header = bytes(124) + struct.pack("<H2s", 0x0100, b"IM")
    with pytest.raises(ValueError, match="cut or too large"):
        MatFile(header + struct.pack("<II", 15, len(bomb)) + bomb)
