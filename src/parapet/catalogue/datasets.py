"""The data sets that can be named in params.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from parapet.catalogue.spec import Catalogue


@dataclass(frozen=True)
class DataSet:
    """A data set.

    reader: "module:function" of (name, folders to look in) that gives a `parapet.data.sources.Source`.
    torchvision: the name of torchvision's class, whose attributes list the published files, their checksums and
    addresses; None for a data set that torchvision does not have.
    """

    name: str
    reader: str
    torchvision: str | None = None


_SOURCES = "parapet.data.sources"
DATASETS: Catalogue[DataSet] = Catalogue("a data set", (
    DataSet("digits", f"{_SOURCES}:read_digits"),
    DataSet("mnist", f"{_SOURCES}:read_idx_files", "MNIST"),
    DataSet("fashion_mnist", f"{_SOURCES}:read_idx_files", "FashionMNIST"),
    DataSet("cifar10", f"{_SOURCES}:read_cifar_files", "CIFAR10"),
    DataSet("cifar100", f"{_SOURCES}:read_cifar_files", "CIFAR100"),
    DataSet("svhn", f"{_SOURCES}:read_svhn_files", "SVHN"),
))
