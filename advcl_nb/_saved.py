"""The format of files that hold tensors: encoders, runs and heads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from advcl_nb._check import require, require_is
from advcl_nb._file import write_whole

FORMAT = "advcl_nb/1"
_RUN = {"kind", "config", "weights", "history", "step", "sums", "optimizer"}
PARTS = {  # of each kind of file
    "encoder": {"kind", "config", "weights", "history", "branch"},
    "head": {"kind", "encoder", "weights", "branch"},
    "pretrain": _RUN,
    "finetune": _RUN | {"classes", "model", "encoder_branch"},
}


def write_file(content: Mapping, path: str | Path) -> Path:
    """Write tensors and plain types in our format, all or nothing."""
    require_is(path, "path", (str, Path))
    require(not Path(path).is_dir(), "path", "the name of a file", str(path), "This is a folder.")
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    return write_whole(Path(path), buffer.getvalue())


def read_file(path: str | Path) -> dict:
    """Read what `write_file` wrote, whole and of a kind of ours; no code of a file is ever run."""
    require_is(path, "path", (str, Path))
    with open(path, "rb") as file:
        try:
            damaged = zipfile.ZipFile(file).testzip()  # torch.load itself does not look at the checksums
            require(damaged is None, "path", "parts with their checksum", damaged)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged or foreign file fails in many ways (zip, pickle, key, Unicode errors)
            raise ValueError(
                f"path: expected a file written by adv.save, got {path}, which cannot be read "
                f"({type(error).__name__}). It is damaged or of another program; for the AdvCL release's files use "
                "adv.load_release_checkpoint."
            ) from error
    ours = isinstance(content, dict) and content.get("format") == FORMAT
    ours = ours and content.keys() >= PARTS.get(content.get("kind"), {"a kind of ours"})
    got = content.get("format", "none") if isinstance(content, dict) else type(content).__name__
    newer = str(got).startswith("advcl_nb/") and got != FORMAT
    todo = "Another version wrote it: update advcl_nb." if newer else "Of the release? Use load_release_checkpoint."
    require(ours, "path", f"a file of format {FORMAT}", got, todo)
    return content
