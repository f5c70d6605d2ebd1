"""Backups: everything that a home remembers, as one folder or tar file, and back. Knows no HTTP."""

from service.backup.errors import BackupDamagedError, BackupError
from service.backup.restoring import Restored, restore
from service.backup.writing import BackedUp, back_up

__all__ = ["BackedUp", "BackupDamagedError", "BackupError", "Restored", "back_up", "restore"]
