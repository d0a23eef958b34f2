"""quietbeam: denoise X-ray fluorescence maps while the scan runs."""

__version__ = "0.1.0"
