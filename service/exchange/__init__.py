"""Heads as files: out of one server, and into another. Knows no HTTP but the errors."""
