"""Write a file all or nothing, whatever dies in between and whoever else writes it."""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

HOUR = 3600.0  # no write takes that long


def write_whole(path: Path, data: bytes | memoryview) -> Path:
    """Write `data` beside `path`, flush it to the disk, read it back, and only then give it its name.

    The old file stays whole until then, and no other writer's part is touched: each has a name of its own. A write
    that fails leaves nothing behind; what a killed one left is swept an hour later. Raises OSError with the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if partial.read_bytes() != data:
            raise OSError(errno.EIO, "other bytes came back than were written")
        os.replace(partial, path)
        _flush_folder(path.parent)
    except OSError as error:
        words = f"{error.strerror or error}, so nothing was written; an older file is as it was"
        raise OSError(error.errno, words, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _sweep(path: Path) -> None:
    """Remove the parts of this file that killed writes left."""
    for file in path.parent.iterdir():
        if file.name.startswith(f".{path.name}.") and file.suffix == ".partial":
            with suppress(OSError):  # another process was faster, or it is somebody else's
                if time.time() - file.stat().st_mtime > HOUR:
                    file.unlink()


def _flush_folder(folder: Path) -> None:
    """Have the disk know the new name too, where a system lets folders be flushed."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
