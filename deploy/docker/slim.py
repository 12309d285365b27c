"""Cuts the symbol tables and debug sections off installed extension modules, which make up two thirds of them.

The wheels of uvloop, brotli and SQLAlchemy come with them, and the image has no `strip`. The loader maps an ELF file by its
program headers (elf(5)); what lies behind the last segment is never read, and neither are the section headers.
"""

from __future__ import annotations

import struct
import sys
import sysconfig
from pathlib import Path

ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
HEADER = 64  # bytes


def cut(data: bytes) -> bytes:
    """An ELF file up to the end of its last segment, without section headers; any other data as it is."""
    if not data.startswith(ELF64_LITTLE_ENDIAN):
        return data
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    end = max(HEADER, table + size * count)
    for entry in range(table, table + size * count, size):
        (offset,) = struct.unpack_from("<Q", data, entry + 8)
        (length,) = struct.unpack_from("<Q", data, entry + 32)
        end = max(end, offset + length)
    kept = bytearray(data[:end])
    struct.pack_into("<Q", kept, 40, 0)  # where the section headers were
    struct.pack_into("<HH", kept, 60, 0, 0)  # how many, and which of them has the names
    return bytes(kept)


def main() -> None:
    """Slim every module in site-packages."""
    before = after = 0
    for path in sorted(Path(sysconfig.get_path("platlib")).rglob("*.so*")):
        data = path.read_bytes()
        slim = cut(data)
        if len(slim) < len(data):
            path.write_bytes(slim)
        before, after = before + len(data), after + len(slim)
    sys.stdout.write(f"extension modules: {before / 1e6:.1f} MB, now {after / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
