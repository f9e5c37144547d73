import hashlib
import json
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy as library
import torch
from safetensors.torch import load_file, save_file

from parapet.config import DataPrepConfig
from parapet.data import Dataset, split, write
from parapet.data.dataset import fingerprint_of
from parapet.disk import files, sealed
from parapet.errors import InputError, WorkError


@pytest.fixture
def source(make_source):
    return make_source(np.repeat(np.arange(3), 40), test_labels=np.repeat(np.arange(3), 10), shape=(3, 4, 5), levels=16)


@pytest.fixture
def folder(source, tmp_path):
    write(tmp_path / "dataset", source, split(source, DataPrepConfig(), 0))
    return tmp_path / "dataset"


def message(function, *arguments) -> str:
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


def test_what_is_written_comes_back(source, folder):
    dataset = Dataset.open(folder)
    assert (dataset.name, dataset.classes, dataset.levels) == ("tiny", ("c0", "c1", "c2"), 16)
    assert dataset.image_shape == (3, 4, 5)
    assert dataset.images == {"train": 96, "validation": 24, "test": 30}
    for name in ("train", "validation"):
        part = dataset.split(name)
        np.testing.assert_array_equal(part.images.numpy(), source.images[part.index.numpy()])
        np.testing.assert_array_equal(part.labels.numpy(), source.labels[part.index.numpy()])
    test = dataset.split("test")
    np.testing.assert_array_equal(test.images.numpy(), source.test_images[test.index.numpy()])
    assert (test.images.dtype, test.labels.dtype, test.index.dtype) == (torch.uint8, torch.int64, torch.int64)


def test_moments_are_those_of_the_training_images(folder):
    dataset = Dataset.open(folder)
    floats = dataset.split("train").images.double() / 16
    assert dataset.mean == pytest.approx(floats.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)
    assert dataset.std == pytest.approx(floats.std(dim=(0, 2, 3), unbiased=False).tolist(), abs=1e-12)


def test_a_limit_is_a_stratified_prefix(folder):
    dataset = Dataset.open(folder)
    whole = dataset.split("train")
    part = dataset.split("train", limit=30)
    assert torch.equal(part.index, whole.index[:30])
    assert torch.bincount(part.labels).tolist() == [10, 10, 10]
    assert len(dataset.split("train", limit=10_000)) == 96


def test_same_input_same_bytes_and_fingerprint(source, folder, tmp_path):
    again = write(tmp_path / "again", source, split(source, DataPrepConfig(), 0))
    assert again.fingerprint == Dataset.open(folder).fingerprint
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["dataset.json", "test.safetensors", "train.safetensors", "validation.safetensors"]
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_files_are_those_of_the_library_to_the_byte(folder, tmp_path):
    for path in folder.glob("*.safetensors"):
        library.save_file(library.load_file(path), tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_memory_does_not_grow_with_the_images(make_source, tmp_path):
    """32 MB of images: the old way took a copy of each, and eight bytes for each of their values."""
    source = make_source(np.arange(32 * 1024) % 4, shape=(1, 32, 32), levels=255)
    parts = split(source, DataPrepConfig(), 0)
    tracemalloc.start()
    try:
        made = write(tmp_path / "dataset", source, parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6 and made.fingerprint == fingerprint_of(source, parts)
    part = made.split("train")
    assert torch.equal(part.images, torch.from_numpy(source.images)[part.index])


def test_fingerprint_by_hand(folder):
    dataset = Dataset.open(folder)
    digest = hashlib.sha256(json.dumps([16, ["c0", "c1", "c2"]]).encode())
    for name in ("train", "validation", "test"):
        part = dataset.split(name)
        for key, array in (("images", part.images), ("labels", part.labels), ("index", part.index)):
            array = array.numpy()
            digest.update(json.dumps([name, key, str(array.dtype), list(array.shape)]).encode() + array.tobytes())
    assert dataset.fingerprint == digest.hexdigest()


def test_fingerprint_sees_every_part(make_source, source, folder, tmp_path):
    seen = {Dataset.open(folder).fingerprint}
    seen.add(write(tmp_path / "seed", source, split(source, DataPrepConfig(), 1)).fingerprint)
    seen.add(write(tmp_path / "limit", source, split(source, DataPrepConfig(limit_test=12), 0)).fingerprint)
    others = [{"classes": ("c0", "c1", "other")}, {"levels": 255}, {"seed": 1}]
    for number, change in enumerate(others):
        other = make_source(source.labels, test_labels=source.test_labels,
                            **{"shape": (3, 4, 5), "levels": 16, **change})
        seen.add(write(tmp_path / str(number), other, split(other, DataPrepConfig(), 0)).fingerprint)
    assert len(seen) == 6


def test_verify_finds_a_changed_pixel(folder):
    Dataset.open(folder).verify()
    path = folder / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = message(Dataset.open(folder).verify)
    assert re.fullmatch(rf"{path} is damaged, or not of this data set \(its SHA-256 is \w{{12}} instead of \w{{12}}\); "
                        rf"run `parapet data_prep --out {folder}`\.", found)
    # Nor does it help to make new digests of the file.
    info = files.read_json(folder / "dataset.json")
    sealed.write(folder / "dataset.json", {**info, "files": {**info["files"], path.name: files.file_digest(path)}})
    dataset = Dataset.open(folder)
    assert message(dataset.verify).startswith(f"{folder} is damaged: its fingerprint is ")
    assert message(dataset.verify).endswith(f"dataset.json says {dataset.fingerprint[:12]}...; "
                                            f"run `parapet data_prep --out {folder}`.")


def test_shifted_labels_are_not_read(folder):
    """They were reported as 0.0 % clean accuracy, under the old fingerprint."""
    Dataset.open(folder).split("test")
    path = folder / "test.safetensors"
    arrays = load_file(path)
    save_file({**arrays, "labels": (arrays["labels"] + 1) % 3}, path)
    assert message(Dataset.open(folder).split, "test").startswith(f"{path} is damaged, or not of this data set (")
    assert len(Dataset.open(folder).split("train")) == 96


def test_a_lost_description_is_made_again_and_nothing_else_is_deleted(source, folder):
    (folder / "dataset.json").unlink()
    fingerprint = write(folder, source, split(source, DataPrepConfig(), 0)).fingerprint
    assert Dataset.open(folder).fingerprint == fingerprint
    (folder / "dataset.json").unlink()
    (folder / "thesis.txt").write_text("precious")
    assert "holds files that are not from this command" in message(
        write, folder, source, split(source, DataPrepConfig(), 0))


def test_cut_file(folder):
    path = folder / "train.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    found = message(Dataset.open(folder).split, "train")
    assert found.startswith(f"{path} is damaged, or not of this data set (")
    assert found.endswith(f"); run `parapet data_prep --out {folder}`.")


def test_file_of_another_data_set(make_source, folder, tmp_path):
    other = make_source(np.repeat(np.arange(3), 50), test_labels=[0, 1, 2])
    write(tmp_path / "other", other, split(other, DataPrepConfig(), 0))
    (tmp_path / "other/train.safetensors").replace(folder / "train.safetensors")
    assert message(Dataset.open(folder).split, "train").startswith(
        f"{folder}/train.safetensors is damaged, or not of this data set (its SHA-256 is ")


def test_missing_parts(folder):
    (folder / "validation.safetensors").unlink()
    assert message(Dataset.open, folder) == (
        f"{folder}/validation.safetensors is missing; run `parapet data_prep --out {folder}`.")
    (folder / "dataset.json").unlink()
    assert message(Dataset.open, folder) == (
        f"{folder} holds no prepared data set ({folder}/dataset.json is missing); "
        f"run `parapet data_prep --out {folder}`.")


def test_foreign_description(folder):
    path = folder / "dataset.json"
    info = files.read_json(path)
    sealed.write(path, {**info, "schema_version": 1})
    assert message(Dataset.open, folder) == (
        f"{path} has schema_version 1, and this Parapet reads 2; run `parapet data_prep --out {folder}`.")
    sealed.write(path, {**info, "levels": "16"})
    assert message(Dataset.open, folder) == (
        f"{path} is damaged (levels of the wrong kind); run `parapet data_prep --out {folder}`.")
    del info["mean"], info["std"]
    sealed.write(path, info)
    assert message(Dataset.open, folder) == (
        f"{path} is damaged (mean, std missing); run `parapet data_prep --out {folder}`.")
    for text, why in (("", "it is empty"), ("{", "it is no JSON"), ("[" * 100_000, "it is no JSON"),
                      ("[]", "it holds no JSON object"), ("null", "it holds no JSON object"),
                      ("{}", "it has no checksum"), ('{"checksum": NaN}', "it is no JSON")):
        path.write_text(text)
        assert message(Dataset.open, folder) == (f"{path} is damaged, or from another version of Parapet ({why}); run "
                                                 f"`parapet data_prep --out {folder}`.")


def test_wrong_split_and_limit(folder):
    dataset = Dataset.open(folder)
    assert message(dataset.split, "valid") == (
        f"'valid' is not a split of {folder}; allowed: train, validation, test.")
    assert message(dataset.split, "test", "cpu", 0) == "limit is 0; it must be at least 1, or None for all images."


def test_a_folder_that_may_not_be_written_is_wrong_input(source, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("parapet.data.dataset.save", refused)
    with pytest.raises(InputError) as error:
        write(tmp_path / "new", source, split(source, DataPrepConfig(), 1))
    assert str(error.value) == (f"{tmp_path / 'new'} cannot be written (Permission denied); correct the permissions "
                                "of its folder, or give another folder with --out.")


def test_the_old_folder_stays_until_the_new_one_is_whole(source, folder, monkeypatch):
    before = Dataset.open(folder).fingerprint

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("parapet.data.dataset.save", full_disk)
    with pytest.raises(WorkError, match="cannot be written .*No space left on device.*; free some space"):
        write(folder, source, split(source, DataPrepConfig(), 1))
    assert Dataset.open(folder).fingerprint == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("module, needed", [
    ("dataset", "torch, numpy, safetensors.torch"),
    ("info", "json"), ("splits", "numpy"), ("sources", "numpy"), ("fetch", "numpy"),
])
def test_what_an_import_needs(module, needed):
    code = (f"import sys, {needed}; before = set(sys.modules); import parapet.data.{module}; "
            "tops = lambda names: {name.split('.')[0] for name in names}; "
            "print(sorted(tops(sys.modules) - tops(before) - set(sys.stdlib_module_names)))")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['parapet']"


def test_the_room_names_its_exports():
    import parapet.data

    assert all(callable(getattr(parapet.data, name)) for name in parapet.data.__all__)
    with pytest.raises(AttributeError, match="module 'parapet.data' has no attribute 'nothing'"):
        _ = parapet.data.nothing
