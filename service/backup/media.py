"""Where a backup lies: a folder, or a tar file, which has the same files. Nothing in either is trusted.

Knows no manifest.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Protocol

from service.backup.errors import BackupDamagedError

FILE_MODE = 0o600  # users' data


class Medium(Protocol):
    """A backup that can be read."""

    def names(self) -> list[str]:
        """Its files.

        Raises
        ------
        BackupDamagedError
            It has something that is no plain file, or a name twice.
        """
        ...

    def open(self, name: str) -> IO[bytes]:
        """One of its files.

        Raises
        ------
        BackupDamagedError
            There is none of that name.
        """
        ...


class FolderMedium:
    """A backup as a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        found = []
        for folder, folders, files in os.walk(self._root):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    raise BackupDamagedError(f"{path} is no plain file")
            found += [Path(folder, name).relative_to(self._root).as_posix() for name in files]
        return found

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self._root / name).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise BackupDamagedError(f"{name} is missing") from error


class TarMedium:
    """A backup as a tar file, not compressed."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}

    def names(self) -> list[str]:
        try:
            for member in self._archive:
                if not member.isreg() or member.name in self._members:
                    raise BackupDamagedError(f"{member.name!r:.80} is no plain file, or is there twice")
                self._members[member.name] = member
        except (tarfile.TarError, OSError) as error:
            raise BackupDamagedError(f"the tar file is damaged: {error}") from error
        return list(self._members)

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        stream = None if member is None else self._archive.extractfile(member)
        if stream is None:
            raise BackupDamagedError(f"{name} is missing")
        return stream


@contextmanager
def opened(path: Path) -> Iterator[Medium]:
    """A backup to read, as what it is.

    Raises
    ------
    BackupDamagedError
        There is none, or the file is no tar file.
    """
    if path.is_dir():
        yield FolderMedium(path)
        return
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115
    except FileNotFoundError as error:
        raise BackupDamagedError(f"there is no {path}") from error
    except (tarfile.TarError, OSError) as error:
        raise BackupDamagedError(f"{path} is neither a folder nor a tar file: {error}") from error
    with closing(archive):
        yield TarMedium(archive)


def write_file(path: Path, stream: IO[bytes]) -> None:
    """Write a new file, durably, readable by nobody else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with open(descriptor, "wb") as file:
        while block := stream.read(1 << 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def pack(folder: Path, path: Path) -> None:
    """Write the files of a folder as a tar file, durably; it tells nothing of this machine or its users."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    with open(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(FolderMedium(folder).names()):
                member = tarfile.TarInfo(name)
                member.size = (folder / name).stat().st_size
                member.mode = FILE_MODE
                with (folder / name).open("rb") as source:
                    archive.addfile(member, source)
        file.flush()
        os.fsync(file.fileno())


def as_stream(data: bytes) -> IO[bytes]:
    return io.BytesIO(data)
