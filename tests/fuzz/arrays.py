"""Images of the user's own: .npz files, and numbers on the command line of `parapet attack`."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parapet.attacks.inputs import check
from parapet.data.arrays import load_images
from tests.fuzz.mutations import damaged
from tests.fuzz.part import Part, demand

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DTYPES = ("u1", "f4", "f8", "f2", "i4", "i8", "?", "U3", "S5", "O", "c8", "M8[s]", ">f4", ">i2", "u8", "V4", "g",
           "|u1")
_SIDES = (0, 1, 2, 3, 8, 2**31, 2**62, 10**12, -1)


class Arrays(Part):
    """Archives that were damaged, and archives of members that are not what they should be."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = [self._archive([("images.npy", self._npy(images)), ("labels.npy", self._npy(labels))], method)
                      for method in _METHODS for images, labels in (
                          (np.arange(6 * 16, dtype=np.uint8).reshape(6, 1, 4, 4), np.arange(6)),
                          (np.linspace(0, 1, 6 * 12, dtype=np.float32).reshape(6, 4, 3), np.arange(6, dtype=np.uint8)))]

    @staticmethod
    def _archive(members: list[tuple[str, bytes]], method: int) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in members:
                archive.writestr(name, content)
        return stream.getvalue()

    @staticmethod
    def _npy(array: Any, header: dict[str, Any] | None = None, version: tuple[int, int] = (1, 0)) -> bytes:
        stream = io.BytesIO()
        told = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **(header or {})}
        write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
        write(stream, told)
        return stream.getvalue() + array.tobytes()

    def make(self, chance: random.Random) -> bytes:
        if chance.random() < 0.45:
            return damaged(chance, chance.choice(self.seeds), self.seeds)
        members = []
        for name in ("images", "labels"):
            shape = (6, 1, 4, 4) if name == "images" else (6,)
            array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
            header: dict[str, Any] = {}
            blow = chance.randrange(8)
            if blow == 0:
                header["descr"] = chance.choice(_DTYPES)
            elif blow == 1:
                header["shape"] = tuple(chance.choices(_SIDES, k=chance.randrange(6)))
            elif blow == 2:
                small = tuple(chance.choices((0, 1, 2, 3, 6), k=chance.randrange(6)))
                array = np.zeros(small, chance.choice(("u1", "f4", "i8", "?", "c8", "U2")))
            elif blow == 3:
                header["fortran_order"] = True
            elif blow == 4:
                array = chance.choice((np.full(shape, np.nan), np.full(shape, 2.0), np.full(shape, -0.5, np.float16),
                                       np.full(shape, np.inf, np.float32), np.full(shape, 2**63, np.uint64),
                                       np.full(shape, -1), np.linspace(0, 1, array.size).reshape(shape)))
            content = self._npy(array, header, chance.choice(((1, 0), (1, 0), (2, 0))))
            if chance.random() < 0.25:
                content = damaged(chance, content)
            for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2))):
                members.append((chance.choice((f"{name}.npy",) * 9 + (name, "x.npy", f"../{name}.npy")), content))
        if chance.random() < 0.02:
            members.append(("images.npy", self._npy(np.zeros((9, 3, 2000, 2000), np.uint8))))
        return self._archive(members, chance.choice(_METHODS))

    def check(self, content: bytes) -> None:
        path = self.put("images.npz", content)
        for limit in (None, 2):
            images, labels = load_images(path, limit=limit)[:2]
            demand(images.dtype == torch.float32 and images.dim() == 4 and 0 not in images.shape, "no images")
            demand(labels.dtype == torch.int64 and labels.shape == images.shape[:1], "no labels")
            # What the attacks look at first; it refuses pixels outside of [0, 1].
            check(images, labels, eps=0.1)
            demand(bool(((images >= 0) & (images <= 1)).all()) and bool((labels >= 0).all()),
                   "pixels or labels are odd")
