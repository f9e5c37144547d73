import numpy as np
import pytest

from parapet.data import digits
from parapet.disk import files
from parapet.errors import InputError


def test_export_is_scikit_learns_digits(tmp_path):
    from sklearn.datasets import load_digits

    digits.export(tmp_path / "digits")
    images, labels = digits.read(tmp_path / "digits")
    assert (images.shape, images.dtype, labels.dtype) == ((1797, 1, 8, 8), np.uint8, np.int64)
    assert (images.min(), images.max()) == (0, 16)
    np.testing.assert_array_equal(images[:, 0], load_digits().images)
    np.testing.assert_array_equal(labels, load_digits().target)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_export_says_where_it_is_from(tmp_path):
    digits.export(tmp_path)
    info = files.read_json(tmp_path / "dataset.json")
    assert (info["name"], info["levels"], info["licence"]) == ("digits", 16, "CC BY 4.0")
    assert "UCI" in info["source"]


def test_export_has_the_same_bytes_every_time(tmp_path):
    digits.export(tmp_path / "a")
    digits.export(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["dataset.json", "images.npy", "labels.npy"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_damaged_images(tmp_path):
    digits.export(tmp_path)
    path = tmp_path / "images.npy"
    right = files.file_digest(path)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        digits.read(tmp_path)
    assert str(error.value) == (
        f"{path} is damaged: its sha256 is {files.file_digest(path)[:12]}..., and {right[:12]}... is right; "
        "delete it, then run `dvc pull` or `parapet data fetch digits`.")


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "dataset.json"])
def test_missing_file(tmp_path, name):
    digits.export(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError) as error:
        digits.read(tmp_path)
    assert str(error.value) == f"{tmp_path / name} is missing; run `dvc pull` or `parapet data fetch digits`."


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": {"images.npy": "0"}}'])
def test_damaged_description(tmp_path, text):
    digits.export(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError) as error:
        digits.read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'dataset.json'} is damaged: it does not hold the SHA-256 of images.npy and labels.npy; "
        "delete it, then run `dvc pull` or `parapet data fetch digits`.")
