"""Files of measured maps in, denoised maps out."""

from .choice import ReadChoice, command_line, parse_choice
from .map_file import MapFile
from .read import read_map, read_spectra
from .readers.measured import read_measured
from .target import check_target
from .writers.write import FORMATS, format_of, write_result

__all__ = [
    "FORMATS",
    "MapFile",
    "ReadChoice",
    "check_target",
    "command_line",
    "format_of",
    "parse_choice",
    "read_map",
    "read_measured",
    "read_spectra",
    "write_result",
]
