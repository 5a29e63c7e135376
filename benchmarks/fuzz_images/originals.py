"""The sound files that are damaged: small ones of every format, layout and compression that KryptonDB reads."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: DICOM files of pydicom and pydicom-data that are larger are skipped: decoding them would take most of the time.
_LARGEST = 160_000
_HEIGHT, _WIDTH = 37, 43


@dataclass(frozen=True)
class Original:
    """A sound file. `fragments` are parts that it has; a case reads one of them, or none."""

    format: str
    name: str
    data: bytes
    fragments: tuple[str, ...] = ("",)


def originals() -> list[Original]:
    """All of them, in a fixed order. DICOM files come from the packages that are installed."""
    return [*_pillow(), *_clear_gray(), *_tiff(), *_dicom(), *_nifti(), *_tables()]


def _samples(channels: int, top: int = 256) -> np.ndarray:
    shape = (_HEIGHT, _WIDTH) if channels == 1 else (_HEIGHT, _WIDTH, channels)
    noise = np.random.default_rng(channels).integers(0, top // 4, shape)
    slope = np.linspace(0, top * 0.7, _WIDTH).reshape((1, _WIDTH) if channels == 1 else (1, _WIDTH, 1))
    return (noise + slope).astype(np.uint16 if top > 256 else np.uint8)


def _pillow() -> Iterator[Original]:
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {"exif": exif.tobytes()}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
    ]
    for format, mode, options in kinds:
        if mode == "I;16":
            image = Image.fromarray(_samples(1, 65536))
        else:
            image = Image.fromarray(_samples(3)).convert(mode)
        stream = io.BytesIO()
        image.save(stream, format, **options)
        yield Original(format.lower(), f"{mode.replace(';', '')}.{format.lower()}", stream.getvalue())


def _clear_gray() -> Iterator[Original]:
    """PNG of 1, 2, 4 and 16 bits of gray, with a level that is transparent: Pillow writes none."""
    for depth in (1, 2, 4, 16):
        samples = _samples(1, 65536) >> (16 - depth)
        bits = (samples[:, :, None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(_HEIGHT, -1).astype(np.uint8), axis=1)
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, depth, 0, 0, 0, 0)),
            (b"tRNS", b"\x00\x01"),
            (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
            (b"IEND", b""),
        )
        parts = (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        yield Original("png", f"clear-{depth}.png", b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _tiff() -> Iterator[Original]:
    import tifffile

    rgb16, grey = _samples(3, 65536), _samples(1, 65536)
    planes = np.moveaxis(rgb16, 2, 0).copy()
    kinds: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("rgb16", rgb16, {"photometric": "rgb"}),
        ("rgb16-deflated", rgb16, {"photometric": "rgb", "compression": "zlib"}),
        ("tiled", rgb16, {"photometric": "rgb", "tile": (16, 16)}),
        ("planes", planes, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
        ("grey16", grey, {}),
        ("int16", grey.astype(np.int16), {"compression": "zlib"}),
        ("float32", grey.astype(np.float32) / 65535, {}),
        ("float64", grey / 65535, {"compression": "zlib", "rowsperstrip": 5}),
        ("big", _samples(3), {"photometric": "rgb", "bigtiff": True}),
        ("white-is-zero", grey, {"photometric": "miniswhite", "byteorder": ">", "compression": "zlib"}),
        ("two-stains", np.dstack([grey, grey]), {"photometric": "minisblack", "planarconfig": "contig"}),
        ("premultiplied", _samples(4), {"photometric": "rgb", "extrasamples": ["assocalpha"], "compression": "zlib"}),
        ("opacity-plane", np.stack([grey, grey]), {"planarconfig": "separate", "extrasamples": ["unassalpha"]}),
        ("imagej", np.stack([grey] * 3), {"imagej": True}),
    ]
    for name, samples, options in kinds:
        stream = io.BytesIO()
        tifffile.imwrite(stream, samples, **options)
        yield Original("tiff", f"{name}.tif", stream.getvalue(), ("", "page=2") if name == "imagej" else ("",))
    stack = io.BytesIO()  # as ImageJ writes large ones: one directory
    tifffile.imwrite(stack, grey, description="ImageJ=1.54f\nimages=3\nslices=3\n", metadata=None)
    yield Original("tiff", "stack.tif", stack.getvalue() + grey.tobytes() * 2, ("", "page=2", "page=3"))
    for mode in ("L", "P", "CMYK", "1"):
        stream = io.BytesIO()
        Image.fromarray(_samples(3)).convert(mode).save(stream, "TIFF", compression="tiff_lzw")
        yield Original("tiff", f"lzw-{mode}.tif", stream.getvalue())
    first, second = Image.fromarray(_samples(3)), Image.fromarray(_samples(1))
    for compression in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        stream = io.BytesIO()
        first.save(stream, "TIFF", compression=compression, save_all=True, append_images=[second])
        yield Original("tiff", f"{compression}.tif", stream.getvalue(), ("", "page=2"))


def _dicom() -> Iterator[Original]:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    bits = np.random.default_rng(1).integers(0, 2, (3, _HEIGHT, _WIDTH))
    for name, depth, data in (
        ("bits.dcm", 1, np.packbits(bits.reshape(-1), bitorder="little").tobytes() + b"\0"),
        ("table.dcm", 8, _samples(1).tobytes() + b"\0"),
    ):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.SOPClassUID, header.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, "1.2.3"
        header.Rows, header.Columns, header.SamplesPerPixel = _HEIGHT, _WIDTH, 1
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = depth, depth, depth - 1
        if depth == 1:
            header.NumberOfFrames = len(bits)
        else:
            table = Dataset()
            table.add_new("LUTDescriptor", "US", [256, 0, 8])
            table.add_new("LUTData", "OW", bytes(range(255, -1, -1)))
            header.VOILUTSequence = [table]
        header.PixelData = data[: len(data) // 2 * 2]
        written = io.BytesIO()
        pydicom.dcmwrite(written, header, enforce_file_format=True)
        yield Original("dicom", name, written.getvalue(), ("", "frame=2") if depth == 1 else ("",))

    folders = [Path(pydicom.__file__).parent / "data" / "test_files"]
    try:
        import data_store
    except ImportError:
        pass
    else:
        folders.append(Path(data_store.__file__).parent / "data")
    for folder in folders:
        for path in sorted(folder.glob("*.dcm")):
            if path.stat().st_size <= _LARGEST:
                yield Original("dicom", path.name, path.read_bytes(), ("", "", "frame=2"))


def _nifti() -> Iterator[Original]:
    import nibabel

    noise = np.random.default_rng(0)
    rgb = np.zeros((9, 8, 7), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    volumes: list[tuple[str, np.ndarray, Any]] = [
        ("int16.nii", noise.integers(-1000, 1000, (9, 8, 7)).astype(np.int16), nibabel.Nifti1Image),
        ("float32.nii", noise.random((9, 8, 7)).astype(np.float32), nibabel.Nifti1Image),
        ("series.nii", noise.integers(0, 255, (9, 8, 7, 3)).astype(np.uint8), nibabel.Nifti1Image),
        ("rgb.nii", rgb, nibabel.Nifti1Image),
        ("version2.nii", noise.integers(0, 999, (9, 8, 7)).astype(np.uint16), nibabel.Nifti2Image),
    ]
    for name, voxels, kind in volumes:
        data = kind(voxels, affine).to_bytes()
        parts = ("slice=3", "slice=2&axis=coronal", "slice=1&axis=sagittal", "slice=1&volume=2")
        yield Original("nifti", name, data, parts)
        yield Original("nifti", f"{name}.gz", gzip.compress(data, mtime=0), parts)


def _tables() -> Iterator[Original]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    Image.fromarray(_samples(3)).save(stream, "PNG")
    pictures = [stream.getvalue()] * 5
    structs = [{"bytes": data, "path": "a.png"} for data in pictures]
    for name, values in (
        ("bytes", pa.array(pictures)),
        ("both", pa.array(structs)),
        ("paths", pa.array(["a.png"] * 5)),
    ):
        table = pa.table({"image": values, "label": list("abcde")})
        written = io.BytesIO()
        pq.write_table(table, written, row_group_size=2)
        yield Original("table", f"{name}.parquet", written.getvalue())
        written = io.BytesIO()
        with pa.ipc.new_file(written, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        yield Original("table", f"{name}.arrow", written.getvalue())
        written = io.BytesIO()
        with pa.ipc.new_file(written, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        yield Original("table", f"{name}-zstd.arrow", written.getvalue())
        written = io.BytesIO()
        pq.write_table(table, written, compression="zstd", data_page_version="2.0", use_dictionary=False)
        yield Original("table", f"{name}-pages.parquet", written.getvalue())
