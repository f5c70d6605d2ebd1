"""Heads with their examples as one file, out of one server and into another. Knows no HTTP but the errors."""

from service.exchange.head_archive.archives import HeadArchives
from service.exchange.head_archive.writing import HeadArchive

__all__ = ["HeadArchive", "HeadArchives"]
