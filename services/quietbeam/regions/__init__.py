"""Named regions of a map: which pixels they hold, and what every line shows in them."""

from .shapes import Region, make_region
from .statistics import LineStatistics, line_statistics

__all__ = ["LineStatistics", "Region", "line_statistics", "make_region"]
