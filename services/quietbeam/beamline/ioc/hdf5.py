"""The HDF5 plugin: it writes the spectra of every frame, with positions, I0 and dead time beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import structlog

from quietbeam.core.errors import InputError

from .address import Address
from .records import LongStr, Records
from .spectra import CHANNELS
from .xspress3 import DISABLE_ENABLE, NO_YES, Shot, describe_array

log = structlog.get_logger()

GROUP = "/entry/instrument/detector"
DEAD_PERCENT = f"{GROUP}/dead_percent"
COMPRESSIONS = ("None", "N-bit", "szip", "zlib", "Blosc", "BSLZ4", "LZ4", "JPEG")
_ATTRIBUTE_CHUNK = 16384
_POSSIBLE = {"None": None, "zlib": "gzip"}


def attributes_xml(address: Address) -> str:
    """Return the NDAttributes of a frame, as ``NDAttributesFile`` holds them: I0 and both positions."""
    root = ElementTree.Element("Attributes")
    for name, source in (("I0", address.i0), ("SLOW", f"{address.slow}.RBV"), ("FAST", f"{address.fast}.RBV")):
        facts = {"name": name, "type": "EPICS_PV", "source": source, "dbrtype": "DBR_DOUBLE", "description": ""}
        ElementTree.SubElement(root, "Attribute", facts)
    return ElementTree.tostring(root, encoding="unicode")


class HDF5Plugin:
    """Captures shots into a file, readable while it grows when ``SWMRMode`` is on (as it is at first).

    The file has the layout of areaDetector: ``/entry/instrument/detector/data`` (frame, detector, channel), the same
    as ``/entry/data/data``; NDAttributes in ``/entry/instrument/NDAttributes``; and ``dead_percent`` (frame, detector).
    """

    def __init__(self, records: Records, detectors: int, attributes: str) -> None:
        self._records, self._detectors = records, detectors
        self._file: h5py.File | None = None
        self._over = asyncio.Event()
        describe_array(records, detectors, "HDF1", attributes)
        records.pair("EnableCallbacks", "Enable", choices=DISABLE_ENABLE)
        records.pair("BlockingCallbacks", "Yes", choices=NO_YES)
        records.pair("NDArrayPort", "XSP3")
        records.pair("ArrayCounter", 0)
        for name, number in (("NDArrayAddress", 0), ("QueueSize", 100), ("DroppedArrays", 0)):
            records.pair(name, number)
        records.show("PluginType_RBV", "NDFileHDF5")
        records.pair("FilePath", LongStr(), self._put_path)
        records.show("FilePathExists_RBV", "No", choices=NO_YES)
        records.pair("CreateDirectory", 0)
        records.pair("FileName", LongStr("xspress3"))
        records.pair("FileTemplate", LongStr("%s%s_%6.6d.h5"))
        records.pair("FileNumber", 0)
        records.show("FullFileName_RBV", LongStr())
        records.pair("AutoIncrement", "Yes", choices=NO_YES)
        records.pair("AutoSave", "Yes", choices=NO_YES)
        records.pair("FileWriteMode", "Stream", choices=("Single", "Capture", "Stream"))
        records.pair("NumCapture", 0)
        records.show("NumCaptured_RBV", 0)
        records.pair("Capture", "Done", self._put_capture, choices=("Done", "Capture"))
        records.show("WriteStatus", "Write OK", choices=("Write OK", "Write error"))
        records.show("WriteMessage", LongStr())
        records.pair("Compression", "zlib", self._check_compression, choices=COMPRESSIONS)
        records.pair("SWMRMode", "On", choices=("Off", "On"))
        records.show("SWMRActive_RBV", "Off", choices=("Off", "Active"))
        records.add("FlushNow", "Done", self._put_flush, choices=("Done", "Flush"))
        records.pair("LazyOpen", "Yes", choices=NO_YES)
        records.pair("PositionMode", "Off", choices=("Off", "On"))
        records.pair("StoreAttr", "Yes", choices=NO_YES)
        records.pair("ChunkSizeAuto", "Yes", choices=NO_YES)
        records.pair("NumFramesChunks", 1)
        records.pair("NumExtraDims", 0)
        records.pair("XMLFileName", LongStr())
        records.add("NumCapture_CALC", 0)
        records.add("NumCapture_CALC.DISA", 0)

    # -- what clients write -----------------------------------------------------------------------------------------

    async def _put_path(self, path: str) -> str:
        """Make the folder when ``CreateDirectory`` allows it, and say whether it is there."""
        folder = Path(path)
        if path and self._records["CreateDirectory"].value and not folder.is_dir():
            depth = abs(self._records["CreateDirectory"].value)
            there = sum(parent.is_dir() for parent in folder.parents)
            if len(folder.parents) - there < depth:
                folder.mkdir(parents=True, exist_ok=True)
        await self._records["FilePathExists_RBV"].show("Yes" if path and folder.is_dir() else "No")
        return path if not path or path.endswith("/") else f"{path}/"

    @staticmethod
    async def _check_compression(value: str) -> None:
        if value not in _POSSIBLE:
            raise InputError(f"compression {value}: this IOC writes None or zlib")

    async def _put_flush(self, _value: str) -> str:
        if self._file is not None:
            self._file.flush()
        return "Done"

    async def _put_capture(self, value: str) -> str:
        """Start, and wait for the end, so that a put with completion ends with the capture; or stop."""
        if value == "Done":
            await self._close()
            return "Done"
        if self._records["Capture"].value == "Done":
            await self._start()
        await self._over.wait()
        return "Done"

    async def _start(self) -> None:
        records = self._records
        name = self._full_name()
        await records["FullFileName_RBV"].show(str(name))
        await records["NumCaptured_RBV"].show(0)
        self._over = asyncio.Event()
        if not name.parent.is_dir():
            await self._fail(f"there is no folder {name.parent}")
        if records["LazyOpen"].value == "No":
            await self._open()
        await records["Capture"].show("Capture")

    def _full_name(self) -> Path:
        records = self._records
        parts = [records[name].value for name in ("FilePath", "FileName")]
        template = records["FileTemplate"].value
        with_number = template.count("%") - 2 * template.count("%%") > 2
        try:
            name = template % (*parts, *([records["FileNumber"].value] if with_number else []))
        except (TypeError, ValueError) as error:
            raise InputError(f"FileTemplate {template!r}: write it as %s%s_%6.6d.h5 ({error})") from error
        return Path(name)

    async def _fail(self, message: str) -> None:
        await self._records["WriteStatus"].show("Write error")
        await self._records["WriteMessage"].show(message)
        raise InputError(message)

    # -- the file ---------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        records = self._records
        name = records["FullFileName_RBV"].value
        try:
            self._file = file = h5py.File(name, "w", libver="latest")
        except OSError as error:
            await self._fail(f"{name} cannot be written: {error}")
        frames = max(1, records["NumFramesChunks"].value)
        packed = _POSSIBLE[records["Compression"].value]
        options = {"compression": packed, "compression_opts": 1} if packed else {}
        shape = (self._detectors, CHANNELS)
        data = file.create_dataset(
            f"{GROUP}/data", (0, *shape), "<u4", maxshape=(None, *shape), chunks=(frames, *shape), **options
        )
        file["/entry/data/data"] = data
        file.create_dataset(
            DEAD_PERCENT, (0, self._detectors), "<f8", maxshape=(None, self._detectors), chunks=(256, self._detectors)
        )
        for attribute in ("I0", "SLOW", "FAST"):
            file.create_dataset(
                f"/entry/instrument/NDAttributes/{attribute}", (0,), "<f8", maxshape=(None,), chunks=(_ATTRIBUTE_CHUNK,)
            )
        file[f"{GROUP}/NDAttributes"] = file["/entry/instrument/NDAttributes"]
        if records["SWMRMode"].value == "On":
            file.swmr_mode = True
            await records["SWMRActive_RBV"].show("Active")
        await records["WriteStatus"].show("Write OK")
        await records["WriteMessage"].show("")

    async def write(self, shot: Shot) -> None:
        """Add a shot to the file under way, if any; the count of captured frames comes after the data."""
        records = self._records
        if records["EnableCallbacks"].value == "Disable":
            return
        await records["ArrayCounter"].show(records["ArrayCounter"].value + 1)
        if records["Capture"].value == "Done":
            return
        if self._file is None:
            await self._open()
        assert self._file is not None
        count = records["NumCaptured_RBV"].value + 1
        attributes = {"I0": float(shot.frame.i0), "SLOW": shot.slow, "FAST": shot.fast}
        values: dict[str, Any] = {f"/entry/instrument/NDAttributes/{name}": value for name, value in attributes.items()}
        values[DEAD_PERCENT] = shot.dead_percent
        values[f"{GROUP}/data"] = shot.spectra.astype(np.uint32)
        for name, value in values.items():
            dataset = self._file[name]
            dataset.resize(count, axis=0)
            dataset[count - 1] = value
        self._file.flush()
        await records["NumCaptured_RBV"].show(count)
        if count == records["NumCapture"].value:
            await self._close()

    async def _close(self) -> None:
        """End the capture; the next file gets the next number."""
        records = self._records
        if self._file is not None:
            self._file.close()
            self._file = None
            if records["AutoIncrement"].value == "Yes":
                await records["FileNumber"].show(records["FileNumber"].value + 1)
        await records["SWMRActive_RBV"].show("Off")
        if records["Capture"].value != "Done":
            await records["Capture"].show("Done")
        self._over.set()
