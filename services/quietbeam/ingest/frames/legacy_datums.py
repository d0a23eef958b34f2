"""Old-style resource and datum documents: the arrays that area-detector-handlers and similar handlers return.

Follows area-detector-handlers 0.0.10 and the handlers in the profile collections of SRX and HXN. A spec names the
layout of the file; the datum says which part of it an Event means.

============================  ===========================================  ==========================
spec                          what is read                                 datum_kwargs
============================  ===========================================  ==========================
``AD_HDF5*``                  ``frame_per_point`` entries of entry/data    ``point_number``
``XSP3``, ``XSP3_STEP``       one spectrum of the detector's data          ``frame``, ``channel``
``XSP3_FLY``, ``XPS3_FLY``    the detector's data, a row                   (``target``)
``ZEBRA_HDF51``, ``SIS_...``  a column, a row                              ``column``
``..._FLY_STREAM_V1``         ``frame_per_point`` entries of a column      ``column``, ``point_number``
``PANDA``                     a field                                      ``field``
``ROI_HDF5*_FLY``             counts of a region                           ``det_elem``
============================  ===========================================  ==========================
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quietbeam.core.errors import DataNotReadyError, DocumentError
from quietbeam.core.model.types import NumericArray

from ..documents.delivery import Pending
from ..documents.model import Datums, Resource
from .detector_files import DetectorFiles

MAX_DATUMS = 50_000
_XSPRESS = "entry/instrument/detector"


@dataclass(slots=True)
class _Datum:
    resource: str
    parameters: Mapping[str, Any]
    pending: Pending
    retained: bool = True


class DatumStore:
    """The datums of one run, and the arrays that they mean.

    The document of a datum is retained until an Event names the datum, and is acknowledged after that Event.

    Parameters
    ----------
    files
        Open detector files, shared by the runs.
    """

    def __init__(self, files: DetectorFiles) -> None:
        self._files = files
        self._resources: dict[str, Resource] = {}
        self._datums: OrderedDict[str, _Datum] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._datums

    def add_resource(self, resource: Resource) -> None:
        """Add a resource; a second one of the same uid is ignored."""
        self._resources.setdefault(resource.uid, resource)

    def add_datums(self, datums: Datums, pending: Pending) -> None:
        """Add datums; beyond `MAX_DATUMS` the oldest are dropped."""
        for uid, parameters in datums.parameters.items():
            self._release(self._datums.pop(uid, None))
            pending.retain()
            self._datums[uid] = _Datum(datums.resource, parameters, pending)
        while len(self._datums) > MAX_DATUMS:
            self._release(self._datums.popitem(last=False)[1])

    def bind(self, data: Mapping[str, Any], pending: Pending) -> None:
        """Let the documents of the datums that an Event names be acknowledged after the Event."""
        for value in data.values():
            datum = self._datums.get(value) if isinstance(value, str) else None
            if datum is not None:
                datum.pending.follow(pending)
                self._release(datum)

    @staticmethod
    def _release(datum: _Datum | None) -> None:
        if datum is not None and datum.retained:
            datum.retained = False
            datum.pending.release()

    def read(self, uid: str) -> NumericArray:
        """Return the array of a datum.

        Raises
        ------
        DataNotReadyError
            The datum, its resource or its data are still missing.
        DocumentError
            It can never be read.
        """
        datum = self._datums.get(uid)
        if datum is None:
            raise DataNotReadyError(f"datum {uid} did not come")
        resource = self._resources.get(datum.resource)
        if resource is None:
            raise DataNotReadyError(f"resource {datum.resource} did not come")
        try:
            return self._array(resource, datum.parameters)
        except (KeyError, TypeError) as error:
            raise DocumentError(f"datum {uid} of a {resource.spec} lacks {error}") from error

    def _array(self, resource: Resource, parameters: Mapping[str, Any]) -> NumericArray:
        files, spec, per_point = self._files, resource.spec, resource.parameters.get("frame_per_point", 1)
        if spec.startswith("AD_HDF5"):
            name = resource.parameters.get("key", "entry/data/data")
            return self._points(resource, str(name), parameters["point_number"], per_point)
        if spec in ("XSP3", "XSP3_STEP", "XSP3_BULK", "XSP3X"):
            array = files.array(resource, str(resource.parameters.get("key", f"{_XSPRESS}/data")))
            channel = int(parameters["channel"]) - 1
            frame = files.part(resource, array, int(parameters["frame"]), int(parameters["frame"]) + 1)
            if frame.ndim != 3 or not 0 <= channel < frame.shape[1]:
                raise DocumentError(f"{resource.path}: no channel {channel + 1} in an array of shape {array.shape}")
            return frame[0, channel]
        if spec in ("XSP3_FLY", "XPS3_FLY"):
            target = parameters.get("target", "data")
            name = "data" if target == "data" else f"NDAttributes/{target}"
            return files.part(resource, files.array(resource, f"{_XSPRESS}/{name}"))
        column = parameters.get("column", parameters.get("field", parameters.get("det_elem")))
        if column is not None:
            if "point_number" in parameters:
                return self._points(resource, str(column), parameters["point_number"], per_point)
            return files.part(resource, files.array(resource, str(column)))
        raise DocumentError(f"files of spec {spec!r} cannot be read; known are those of docs/reference/profiles.md")

    def _points(self, resource: Resource, name: str, number: Any, per_point: Any) -> NumericArray:
        first = int(number) * int(per_point)
        return self._files.part(resource, self._files.array(resource, name), first, first + int(per_point))

    def close(self) -> None:
        """Close the files of the run and release every datum."""
        self._files.release(list(self._resources.values()))
        for datum in self._datums.values():
            self._release(datum)
        self._datums.clear()
