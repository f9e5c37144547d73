import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from parapet.data import digits, load
from parapet.data.fetch import _locked, fetch
from parapet.data.published import md5
from parapet.errors import InputError, WorkError

TRAIN = "train-images-idx3-ubyte.gz"


class Mirror:
    """A local HTTP server of some files; it can break off early, ignore Range and serve something else."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.break_after: int | None = None
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name, wanted = request.path[1:], request.headers["Range"]
        self.asked.append((name, wanted))
        if name not in self.contents:
            request.send_error(404)
            return
        content = self.contents[name]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start and start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start:][:self.break_after])

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirror(tiny_mnist, monkeypatch):
    """A server of the small MNIST, the only mirror there is."""
    from torchvision import datasets

    root, _ = tiny_mnist
    mirror = Mirror({path.name: path.read_bytes() for path in (root / "MNIST/raw").iterdir()})
    monkeypatch.setattr(datasets.MNIST, "mirrors", [mirror.url])
    yield mirror
    mirror.close()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".part")]


def test_download(mirror, tmp_path):
    seen = []
    folder = fetch("mnist", tmp_path / "data", progress=lambda *report: seen.append(report))
    assert folder == tmp_path / "data/mnist"
    assert len(load("mnist", tmp_path / "data").labels) == 60
    for name, content in mirror.contents.items():
        assert (len(content), len(content), name) in seen
    assert not leftovers(folder)
    mirror.asked.clear()
    fetch("mnist", tmp_path / "data")
    assert mirror.asked == []


def test_broken_download_goes_on_where_it_was(mirror, tmp_path):
    mirror.break_after = 1000
    size = len(mirror.contents[TRAIN])
    with pytest.raises(WorkError) as error:
        fetch("mnist", tmp_path)
    assert str(error.value) == (
        f"{TRAIN} of mnist could not be downloaded ({mirror.url}{TRAIN}: the connection broke off after 1000 of {size} "
        "bytes); run `parapet data fetch mnist` again, which resumes the download, or take a local copy with "
        "--from DIR.")
    raw = tmp_path / "mnist/MNIST/raw"
    assert not (raw / TRAIN).exists()
    assert (raw / f"{TRAIN}.part").stat().st_size == 1000
    mirror.break_after = None
    mirror.asked.clear()
    seen = []
    fetch("mnist", tmp_path, progress=lambda *report: seen.append(report))
    assert mirror.asked[0] == (TRAIN, "bytes=1000-")
    assert seen[0] == (size, size, TRAIN)
    assert len(load("mnist", tmp_path).labels) == 60
    assert not leftovers(tmp_path)


def test_server_without_ranges_starts_again(mirror, tmp_path):
    mirror.ranges = False
    part = tmp_path / f"mnist/MNIST/raw/{TRAIN}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(mirror.contents[TRAIN][:500])
    fetch("mnist", tmp_path)
    assert len(load("mnist", tmp_path).labels) == 60


@pytest.mark.parametrize("begin", [lambda whole: whole, lambda whole: whole + b"more", lambda whole: b"x" * 700])
def test_whole_long_and_wrong_beginnings(mirror, tmp_path, begin):
    part = tmp_path / f"mnist/MNIST/raw/{TRAIN}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(begin(mirror.contents[TRAIN]))
    fetch("mnist", tmp_path)
    assert len(load("mnist", tmp_path).labels) == 60
    assert not leftovers(tmp_path)


def test_next_mirror_takes_over(mirror, tmp_path, monkeypatch):
    from torchvision import datasets

    broken = Mirror(dict.fromkeys(mirror.contents, b"an error page"))
    try:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{mirror.url}moved/", broken.url, mirror.url])
        fetch("mnist", tmp_path)
    finally:
        broken.close()
    assert len(load("mnist", tmp_path).labels) == 60


def test_no_mirror_has_the_file(mirror, tmp_path):
    right = md5(mirror.contents[TRAIN]).hexdigest()
    mirror.contents[TRAIN] = b"an error page"
    with pytest.raises(WorkError) as error:
        fetch("mnist", tmp_path)
    assert f"({mirror.url}{TRAIN}: the md5 of what it serves is not {right[:12]}...); run" in str(error.value)
    assert not list((tmp_path / "mnist/MNIST/raw").iterdir())
    del mirror.contents[TRAIN]
    with pytest.raises(WorkError, match=f"{TRAIN}: Not Found"):
        fetch("mnist", tmp_path)


def test_no_network(mirror, tmp_path):
    mirror.close()
    with pytest.raises(WorkError, match=r"Connection refused\); run `parapet data fetch mnist` again, which resumes"):
        fetch("mnist", tmp_path)


def test_full_disk(mirror, tmp_path):
    part = tmp_path / f"mnist/MNIST/raw/{TRAIN}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(WorkError) as error:
        fetch("mnist", tmp_path)
    assert str(error.value) == (
        f"mnist could not be fetched to {tmp_path}/mnist: the disk is full; free some space, then run `parapet data "
        "fetch mnist` again, which resumes the work.")


def test_a_second_process_that_fetches_the_same_is_refused(mirror, tmp_path):
    with _locked("mnist", tmp_path / "mnist"), pytest.raises(InputError) as error:
        fetch("mnist", tmp_path)
    assert str(error.value) == (f"another process is fetching mnist to {tmp_path}/mnist; wait until it ends, or give "
                                "another folder with --root.")
    fetch("mnist", tmp_path)
    assert len(load("mnist", tmp_path).labels) == 60


def test_a_folder_that_may_not_be_written_is_wrong_input(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "data/.digits.part")

    monkeypatch.setattr("parapet.data.digits.export", refused)
    with pytest.raises(InputError) as error:
        fetch("digits", tmp_path)
    assert str(error.value) == (
        f"digits could not be fetched to {tmp_path}/digits: data/.digits.part cannot be written (Permission denied); "
        "correct its permissions, or give another folder with --root, then run `parapet data fetch digits` again, "
        "which resumes the work.")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_place_that_cannot_be_a_folder_is_wrong_input_and_no_want_of_room(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_text("mine")
    for root in ("file", "x" * 300, "folder"):
        with pytest.raises(InputError) as error:
            fetch(name, tmp_path / root)
        assert "free some space" not in str(error.value) and len(str(error.value)) < 600
    assert (tmp_path / "folder" / name).read_text() == "mine"


def test_what_the_disk_cannot_do_is_no_want_of_room(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error", "data/x")

    monkeypatch.setattr("parapet.data.digits.export", broken)
    with pytest.raises(WorkError, match=r"Input/output error: 'data/x'; correct that, then run"):
        fetch("digits", tmp_path)


def test_archive_is_downloaded_and_unpacked_safely(tiny_cifar, tmp_path, monkeypatch):
    from torchvision import datasets

    _, archive, _ = tiny_cifar
    mirror = Mirror({"cifar-10-python.tar.gz": archive})
    try:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{mirror.url}cifar-10-python.tar.gz")
        fetch("cifar10", tmp_path / "data")
        fetch("cifar10", tmp_path / "data")
    finally:
        mirror.close()
    assert len(mirror.asked) == 1
    assert load("cifar10", tmp_path / "data").images.shape == (100, 3, 32, 32)
    assert [path.name for path in (tmp_path / "data/cifar10").iterdir()] == ["cifar-10-batches-py"]
    assert not (tmp_path / "data/stranger").exists()


def test_an_archive_that_was_there_is_unpacked_and_kept(tiny_cifar, tmp_path):
    """torchvision leaves it there, and it is not ours to delete."""
    _, archive, _ = tiny_cifar
    path = tmp_path / "data/cifar10/cifar-10-python.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(archive)
    fetch("cifar10", tmp_path / "data")
    assert path.read_bytes() == archive
    assert load("cifar10", tmp_path / "data").images.shape == (100, 3, 32, 32)


def test_link_in_an_archive_is_refused(tiny_cifar, tmp_path, monkeypatch):
    from torchvision import datasets

    path = tmp_path / "from/cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(path.read_bytes()).hexdigest())
    with pytest.raises(tarfile.AbsoluteLinkError):
        fetch("cifar10", tmp_path / "data", path.parent)


def test_folder_in_an_archive_under_the_name_of_a_file_is_told(tiny_cifar, tmp_path, monkeypatch):
    """It was an AttributeError, since a folder has no content to read."""
    from torchvision import datasets

    path = tmp_path / "from/cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(path.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="damaged: cifar-10-batches-py/data_batch_1 is not a file in it; replace it"):
        fetch("cifar10", tmp_path / "data", path.parent)


@pytest.mark.parametrize("place", ["", "mnist"])
def test_from_a_folder(tiny_mnist, tmp_path, place):
    root, _ = tiny_mnist
    if place:
        (root / "MNIST").rename(tmp_path / "MNIST")
        (root / place).mkdir()
        (tmp_path / "MNIST").rename(root / place / "MNIST")
    folder = fetch("mnist", tmp_path / "data", root)
    assert len(load("mnist", tmp_path / "data").labels) == 60
    path = folder / "MNIST/raw" / TRAIN
    right, times = path.read_bytes(), {file: file.stat().st_mtime_ns for file in folder.rglob("*.gz")}
    path.write_bytes(b"damaged")
    fetch("mnist", tmp_path / "data", root)
    assert path.read_bytes() == right
    assert all(file.stat().st_mtime_ns == time for file, time in times.items() if file != path)


def test_from_a_folder_that_lacks_a_file(tiny_mnist, tmp_path):
    root, _ = tiny_mnist
    (root / "MNIST/raw" / TRAIN).unlink()
    with pytest.raises(InputError) as error:
        fetch("mnist", tmp_path / "data", root)
    assert str(error.value) == (f"{root}/MNIST/raw/{TRAIN} is missing; complete that folder, or leave --from out to "
                                "download mnist.")
    with pytest.raises(InputError) as error:
        fetch("mnist", tmp_path / "data", tmp_path / "nowhere")
    assert str(error.value) == (
        f"mnist is not in {tmp_path}/nowhere (MNIST/raw/{TRAIN} is not there); name a folder that holds it in "
        "torchvision's layout, or leave --from out to download it.")


def test_from_a_folder_with_a_damaged_file(tiny_mnist, tmp_path):
    root, _ = tiny_mnist
    path = root / "MNIST/raw" / TRAIN
    right = md5(path.read_bytes()).hexdigest()
    path.write_bytes(b"damaged")
    with pytest.raises(InputError) as error:
        fetch("mnist", tmp_path / "data", root)
    assert str(error.value) == (
        f"{path} is damaged: the md5 of {TRAIN} is {md5(b'damaged').hexdigest()[:12]}..., and {right[:12]}... is "
        "right; replace it, or leave --from out to download it.")
    assert not list((tmp_path / "data/mnist/MNIST/raw").iterdir())


def test_from_a_folder_with_the_archive(tiny_cifar, tmp_path):
    _, archive, _ = tiny_cifar
    path = tmp_path / "downloads/cifar-10-python.tar.gz"
    path.parent.mkdir()
    path.write_bytes(archive)
    fetch("cifar10", tmp_path / "data", path.parent)
    assert load("cifar10", tmp_path / "data").test_images.shape == (20, 3, 32, 32)
    assert path.exists()
    path.write_bytes(archive[:-1])
    with pytest.raises(InputError, match="cifar-10-python.tar.gz is damaged: its md5 is not"):
        fetch("cifar10", tmp_path / "other", path.parent)


def test_digits_need_no_network(tmp_path):
    assert fetch("digits", tmp_path / "a") == tmp_path / "a/digits"
    before = (tmp_path / "a/digits/images.npy").read_bytes()
    (tmp_path / "a/digits/images.npy").write_bytes(b"damaged")
    fetch("digits", tmp_path / "a")
    assert (tmp_path / "a/digits/images.npy").read_bytes() == before
    fetch("digits", tmp_path / "b", tmp_path / "a")
    assert len(digits.read(tmp_path / "b/digits")[1]) == 1797
    with pytest.raises(InputError, match=r"digits is not in .*nowhere; name a folder that holds its dataset\.json"):
        fetch("digits", tmp_path / "c", tmp_path / "nowhere")


def test_unknown_name(tmp_path):
    with pytest.raises(InputError, match="'minst' is not a data set; did you mean mnist"):
        fetch("minst", tmp_path)


def test_the_real_mnist_from_a_folder(real_root, tmp_path):
    folder = fetch("mnist", tmp_path, real_root)
    assert sorted(path.name for path in (folder / "MNIST/raw").iterdir()) == [
        "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", TRAIN, "train-labels-idx1-ubyte.gz"]
    shutil.rmtree(folder)
