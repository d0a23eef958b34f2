"""The version of quietbeam: that of the installed package, which the build takes from the tags of the repository."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("quietbeam")
except PackageNotFoundError:  # sources on the path, nothing installed
    __version__ = "0+unknown"
