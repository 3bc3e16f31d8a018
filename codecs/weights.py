"""Weights: what every learned codec does alike with its folder of weights, without loading torch.

A folder holds safetensors and `record.json`, which says how they were made: command, configuration, data with hashes,
seed, steps, and whether that was a training (`trained`).  It may name the codec's rates (`rates`); what it does not
name follows from the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .errors import CodecUnavailableError

RECORD = "record.json"


def file_sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """How the weights were made; empty when nobody wrote it down.

    Raises:
        CodecUnavailableError: the file is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CodecUnavailableError(f"{path}: expected JSON: {' '.join(str(error).split())}") from None
    if not isinstance(record, dict):
        raise CodecUnavailableError(f"{path}: expected keys and values, got {type(record).__name__}")
    return record


def read_metadata(path: Path, *keys: str) -> list[Any]:
    """What a file of weights says of itself: the plain values under `keys`, None for a key that it has not.

    Raises:
        CodecUnavailableError: the file is damaged, or none of weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
        return [json.loads(metadata[key]) if key in metadata else None for key in keys]
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CodecUnavailableError(f"{path}: expected weights: {' '.join(str(error).split())}") from None


def named_rates(folder: Path) -> list[dict[str, Any]] | None:
    """Parameters of the rates that the record names, low to high; None where it leaves them to the weights.

    Raises:
        CodecUnavailableError: they are no list of keys and values.
    """
    rates = read_record(folder).get("rates")
    if rates is None:
        return None
    if not isinstance(rates, list) or not rates or not all(isinstance(rate, dict) for rate in rates):
        raise CodecUnavailableError(f"{folder / RECORD}: rates: expected a list of parameters, got {str(rates)[:60]}")
    return rates


def write_whole(path: Path, data: bytes | memoryview | str) -> None:
    """Replace the file at `path`, whole or not at all.

    Raises:
        OSError: it cannot be written (the disk is full, say); the old file is as it was.
    """
    scratch = path.with_name(f".{path.name}.new")  # one name: what a killed process left is overwritten
    try:
        with scratch.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        text = f"cannot be written: {error.strerror}; what was there is whole, and the same command goes on"
        raise OSError(error.errno, text, str(path)) from error


def stable(data: bytes) -> bytes:
    """What safetensors made, with its metadata in the order of their names: equal weights are equal bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    if len(metadata) < 2:
        return data
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
