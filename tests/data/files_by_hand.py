"""Picture files that no library writes as wanted, byte by byte."""

import struct
import zlib

import numpy as np


def png(values, bits, colour=0):
    """Return a PNG of grey levels (colour 0) or indices of a palette (3), of 1, 2, 4, 8 or 16 bits."""
    depth = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)[..., 16 - bits :]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in depth)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(level % 256 for level in range(3 * 2**bits))) if colour == 3 else b""
    body = chunk(b"IHDR", head) + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_head(width, height, bits=8, colour=0):
    """Return a PNG that says its size and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind, data):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(values, *, bits=None, photometric=1, extra=None):
    """Return a TIFF of one uncompressed strip, in the byte order and kind of the values; 12 bits are packed."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    content = values.tobytes() if bits in (None, 8 * values.dtype.itemsize) else _packed(values, bits)
    tags = {
        256: values.shape[1],
        257: values.shape[0],
        258: bits or 8 * values.dtype.itemsize,
        259: 1,  # no compression
        262: photometric,
        273: 0,  # where the strip begins, below
        277: 1,
        278: values.shape[0],
        279: len(content),
        339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind],
        **(extra or {}),
    }
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + content


def _packed(values, bits):
    every = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)[..., 16 - bits :]
    return b"".join(np.packbits(row).tobytes() for row in every)
