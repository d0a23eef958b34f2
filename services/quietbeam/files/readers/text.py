"""Maps in text, a row for each pixel, as PyMca and MAPS export them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from quietbeam.core.errors import FileFormatError
from quietbeam.core.model.types import Float64Array
from quietbeam.spectra import LineMap, MapInfo

from ..choice import ReadChoice, command_line
from ..names import line_name
from .arrays import NO_I0
from .counts import usable_lines
from .points import Placement, by_positions, in_order

SUFFIXES = (".txt", ".dat", ".csv", ".asc")
_ROW = ("row", "rows", "i", "iy")
_COL = ("column", "columns", "col", "j", "ix")
_Y = ("y", "y position", "y_pos", "ypos", "y_axis")
_X = ("x", "x position", "x_pos", "xpos", "x_axis")
_LARGEST = 2**30
_ODD = 0.5


def read_text(path: Path, choice: ReadChoice) -> LineMap:
    """Read a table with a header: rows and columns or positions, and one column for each line.

    A line of text that is cut short or holds no number costs its pixel. The map is that of one detector.

    Raises
    ------
    FileFormatError
        It is no such table; the message says what was looked for.
    """
    choice.refuse_others(path, "a table of text", "shape", "snake")
    if path.stat().st_size > _LARGEST:
        raise FileFormatError(f"{path} has more than 1 GiB of text: give it as HDF5 or .npz")
    rows = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    header, table = _table(path, rows)
    places = _places([name.lower() for name in header])
    lines = {n: line_name(name) for n, name in enumerate(header) if n not in places}  # y is no yttrium beside x
    mapped = {n: line for n, line in lines.items() if line and list(lines.values()).count(line) == 1}
    if not mapped:
        raise FileFormatError(
            f"{path} is text without a header that names lines as Fe_Ka, Fe_K or Fe; it has {', '.join(header[:12])}"
        )
    placed = _place(path, [name.lower() for name in header], table, choice)
    values = table[:, list(mapped)]
    broken = np.asarray(~np.isfinite(values).all(axis=1))
    where = np.where(broken, 0.0, 1.0)
    counts = np.moveaxis(placed.sum(np.where(broken[:, None], 0.0, values)), -1, 0)[None]
    counts = np.where(placed.measured & (placed.sum(1 - where) == 0), counts, np.nan)
    counts, _, remarks = usable_lines(path, counts)
    measured = np.asarray(np.isfinite(counts).all((0, 1)))
    if broken.any():
        remarks += (
            f"{int(broken.sum())} lines of text are cut short or hold no number: their pixels are not measured",
        )
    info = MapInfo(
        source=path.name,
        detectors=("det1",),
        shape=placed.shape,
        measured=measured,
        axes=placed.axes,
        order=placed.order,
        remarks=(*placed.remarks, *remarks, NO_I0),
    )
    return LineMap(info=info, lines=tuple(mapped.values()), counts=counts, measured=measured)


def _places(names: list[str]) -> tuple[int, ...]:
    """Return the columns that say where a pixel lies: row and column, or y and x."""
    for pair in ((_ROW, _COL), (_Y, _X)):
        found = tuple(next((names.index(name) for name in wanted if name in names), -1) for wanted in pair)
        if min(found) >= 0:
            return found
    return ()


def _table(path: Path, rows: list[str]) -> tuple[list[str], Float64Array]:
    """Return names of the columns and numbers (line of text, column), NaN for what is none."""
    start = next((n for n, row in enumerate(rows) if _numbers(_split(row)) >= 2), len(rows))
    if start == 0 or start == len(rows):
        raise FileFormatError(f"{path} is no table with a header that names its columns, and numbers below")
    header = [name.strip().strip('"').lstrip("#").strip() for name in _split(rows[start - 1].lstrip("#"))]
    body = [_split(row) for row in rows[start:]]
    table = np.full((len(body), len(header)), np.nan)
    for n, fields in enumerate(body):
        for k, field in enumerate(fields[: len(header)]):
            table[n, k] = _number(field)
    if sum(len(fields) != len(header) for fields in body) > _ODD * len(body):
        raise FileFormatError(
            f"{path}: its header has {len(header)} columns, most lines have {len(body[0])}: {', '.join(header[:12])}"
        )
    return header, table


def _split(row: str) -> list[str]:
    for separator in (";", "\t", ","):
        if separator in row:
            return [field.strip() for field in row.strip().split(separator)]
    return re.split(r"\s{2,}|\s", row.strip())


def _number(text: str) -> float:
    try:
        return float(text.strip().strip('"'))
    except ValueError:
        return np.nan


def _numbers(fields: list[str]) -> int:
    return sum(np.isfinite(_number(field)) for field in fields)


def _place(path: Path, names: list[str], table: Float64Array, choice: ReadChoice) -> Placement:
    """Return where the lines of text lie: by rows and columns, by positions, or as the user says."""
    if choice.shape is not None:
        return in_order(len(table), choice.shape, snake=bool(choice.snake))

    columns = _places(names)
    if columns and names[columns[0]] in _ROW:
        return _in_rows(path, *(table[:, n] for n in columns))
    if columns:
        try:
            return by_positions(table[:, columns[0]], table[:, columns[1]], ("y", "x"))
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error
    raise FileFormatError(
        f"{path} has neither columns `row` and `column` nor `x` and `y`: say rows x columns, as in: "
        f"{command_line(path, '--shape 6x8')}"
    )


def _in_rows(path: Path, row: Float64Array, col: Float64Array) -> Placement:
    """Place lines of text by their numbers of row and column, which begin anywhere."""
    good = np.isfinite(row) & np.isfinite(col)
    if not good.any():
        raise FileFormatError(f"{path}: its rows and columns are no numbers")
    r, c = (np.where(good, axis, np.nanmin(axis)) - np.nanmin(axis) for axis in (row, col))
    rows, cols = int(r.max()) + 1, int(c.max()) + 1
    pixels = (r * cols + c).astype(np.intp)
    used = pixels[good]
    if rows * cols > 4 * len(row) + 8 or len(np.unique(used)) < len(used):
        raise FileFormatError(f"{path}: its rows and columns name pixels twice, or leave most of them out")
    return Placement(pixels=np.where(good, pixels, -1), shape=(rows, cols), order="verified")
