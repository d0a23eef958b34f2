"""Files of measured maps in, denoised maps out."""

from .map_file import MapFile
from .read import read_map
from .readers.measured import read_measured
from .target import check_target
from .writers.write import FORMATS, format_of, write_result

__all__ = ["FORMATS", "MapFile", "check_target", "format_of", "read_map", "read_measured", "write_result"]
