"""Heads onto another extractor: examples embedded again, versions compared, all of it or nothing."""
