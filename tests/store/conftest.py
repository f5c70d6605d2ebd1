"""The tiny extractor, for suites that have a target of their own."""

from tests.service.conftest import tiny_folder

__all__ = ["tiny_folder"]
