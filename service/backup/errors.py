"""What can go wrong with backups. Knows no HTTP status."""

from training.errors import HeadstartError


class BackupError(HeadstartError):
    """A backup cannot be written, or not here."""

    code = "backup_failed"


class BackupDamagedError(BackupError):
    """A backup is not whole, or not one; nothing was changed."""

    code = "backup_damaged"
