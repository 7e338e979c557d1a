"""The version of localdistill: said here, read by the package's metadata, model cards and consents."""

__version__ = "0.1.0"
