"""Inputs to rows: extractors, where they come from, and the caches before them. Knows no head and no HTTP."""
