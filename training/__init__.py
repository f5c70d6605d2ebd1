"""Everything that learns: arrays and files in, arrays and files out.

Knows no HTTP, no database and no BentoML.
"""

__version__ = "0.1.0"
