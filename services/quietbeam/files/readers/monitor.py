"""Which of a file's scalers is I0, and which of its pixels it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quietbeam.core.errors import InputError
from quietbeam.core.model.not_measured import usable_i0
from quietbeam.core.model.types import BoolArray, Float64Array

_NONE = ("none", "no", "-")
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """The monitor of the incident beam.

    Attributes
    ----------
    i0
        (row, col), NaN where it is not positive; None: there is none.
    measured
        (row, col) bool: where I0 can be used; None: everywhere.
    remark
        Which scaler it is, or why there is none.
    """

    i0: Float64Array | None
    measured: BoolArray | None
    remark: str


def choose_i0(
    scalers: Mapping[str, Any],
    is_usual: Callable[[str], bool],
    wanted: str = "",
    present: BoolArray | None = None,
) -> Monitor:
    """Choose I0 among scalers (row, col) by name.

    Parameters
    ----------
    is_usual
        Tells names that are I0 unless the user says otherwise; the first is taken.
    wanted
        A name, or ``none``.
    present
        (row, col) bool: pixels that were measured, the others are not counted.

    Raises
    ------
    InputError
        There is no scaler of the wanted name; the message lists those that are there.
    """
    names = list(scalers)
    listed = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
    if wanted.lower() in _NONE:
        return Monitor(i0=None, measured=None, remark="no I0 is used, as chosen")
    if wanted:
        name = next((n for n in names if n.lower() == wanted.lower()), None)
        if name is None:
            raise InputError(
                f"there is no scaler {wanted} for I0; there are {listed or 'none'}: --i0 NAME, or --i0 none"
            )
    else:
        name = next((n for n in names if is_usual(n)), None)
    if name is None:
        why = (
            f"none of the scalers is known as I0 ({listed}): choose it with --i0 NAME" if names else "the file has none"
        )
        return Monitor(i0=None, measured=None, remark=f"maps are not normalised by I0: {why}")
    values, valid = usable_i0(np.asarray(scalers[name]))
    if not valid.any():
        return Monitor(
            i0=None,
            measured=None,
            remark=f"MAPS ARE NOT NORMALISED: I0 ({name}) is nowhere positive; choose another scaler with --i0 NAME",
        )
    invalid = int(np.count_nonzero(~valid if present is None else ~valid & present))
    cost = f"; it is not positive in {invalid} pixels, which are not measured" if invalid else ""
    return Monitor(i0=values, measured=valid, remark=f"I0 is {name}{cost}")
