import pytest

from parapet.data.published import UNPACKED_MD5, check_name, places, published
from parapet.errors import InputError


@pytest.mark.parametrize("name, message", [
    ("cifar-10", "'cifar-10' is not a data set; did you mean cifar10? "
                 "Allowed: digits, mnist, fashion_mnist, cifar10, cifar100, svhn."),
    ("Fashion-MNIST", "'Fashion-MNIST' is not a data set; did you mean fashion_mnist? "
                      "Allowed: digits, mnist, fashion_mnist, cifar10, cifar100, svhn."),
    ("zebra", "'zebra' is not a data set; Allowed: digits, mnist, fashion_mnist, cifar10, cifar100, svhn."),
])
def test_unknown_name(name, message):
    with pytest.raises(InputError) as error:
        check_name(name)
    assert str(error.value) == message


@pytest.mark.parametrize("name, first, count, archive", [
    ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", 4, None),
    ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz", 4, None),
    ("cifar10", "cifar-10-batches-py/data_batch_1", 7, "cifar-10-python.tar.gz"),
    ("cifar100", "cifar-100-python/train", 3, "cifar-100-python.tar.gz"),
    ("svhn", "train_32x32.mat", 2, None),
])
def test_layout_of_torchvision(name, first, count, archive):
    wanted = published(name)
    assert wanted.files[0].path == first
    assert len(wanted.files) == count
    assert (wanted.archive.path if wanted.archive else None) == archive
    downloads = [wanted.archive] if wanted.archive else wanted.files
    assert all(url.startswith("http") and url.endswith(file.path.split("/")[-1])
               for file in downloads for url in file.urls)
    assert all(file.urls and len(file.md5) == 32 for file in downloads)


def test_every_gz_has_a_checksum_for_its_unpacked_form():
    for name in ("mnist", "fashion_mnist"):
        for file in published(name).files:
            assert file.unpacked().path == file.path.removesuffix(".gz")
            assert file.unpacked().md5 == UNPACKED_MD5[file.md5]
    assert published("svhn").files[0].unpacked() is None


def test_own_folder_goes_before_the_root(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert places("mnist", [a, b]) == [a / "mnist", a, b / "mnist", b]
