"""The version of quietbeam; here, because the package itself offers the denoiser and a stage may not see that."""

__version__ = "0.1.0"
