"""The errors of Parapet, which the command line turns into exit codes, and the sentences for errors of the system."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from parapet.quoting import name as named


class ParapetError(Exception):
    """Base of every error that Parapet raises on purpose; its text is one sentence for the user."""

    exit_code = 1


class InputError(ParapetError):
    """The input was wrong: says what, where, what is allowed and what to do. Exit code 2."""

    exit_code = 2


class WorkError(ParapetError):
    """The input was right and the work failed, for example on a full disk. Exit code 1."""


class ProcessDied(ParapetError):
    """A process that was started for a piece of work ended without a result: it crashed, and may be tried again.

    `how` is short and the same for the same kind of death: the name of a signal, for example.
    """

    def __init__(self, text: str, how: str = "process died") -> None:
        super().__init__(text)
        self.how = how


class Fault(Exception):
    """An unexpected exception in a child process; `trace` is its traceback there."""

    def __init__(self, text: str, trace: str) -> None:
        super().__init__(text)
        self.trace = trace


class PromotionRefused(ParapetError):
    """The gate refused a promotion; the text lists every reason. Exit code 3."""

    exit_code = 3


class Interrupted(ParapetError):
    """Ctrl-C, SIGTERM or the end of the parent process; the state is saved. Exit code 130."""

    exit_code = 130


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk is full: by the error number of the system, or the words of a library (safetensors, SQLite)."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _says(error, _FULL)


_FULL = re.compile("No space left on device|StorageFull|disk is full|Disk quota")
# What torch, oneDNN, CUDA, cuDNN, cuBLAS, onnxruntime and the kernel say, and torch's compiler of a MemoryError.
# The last is Python's, of a native function that could not even make its exception.
_NO_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory|bad_alloc|bad allocation|ALLOC_FAILED"
                        r"|(?:^|\s)MemoryError(?::|$)|returned NULL without setting an exception")
# Resources that the machine lacks, and failures of it, that do not depend on the file.
_LACKING = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EIO, errno.ESTALE)
_LACKS = re.compile("Too many open files|can't start new thread|Resource temporarily unavailable|Input/output error")
# Any code raises these with a text of its own; an error of the machine is none of them.
_OWN_WORDS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, NotImplementedError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the machine or on a card, also if a library's own error hides it as its cause.

    A ParapetError never counts: its text is already a sentence for the user.
    """
    return any(isinstance(link, MemoryError) or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
               or _says(link, _NO_MEMORY) for link in causes(error))


def is_of_the_machine(error: BaseException) -> bool:
    """Whether the machine lacked what the work needs: memory, space, a permission, a thread, a file that can be opened.

    Such an error says nothing about the work or the content of a file. A ParapetError never counts.
    """
    return is_out_of_memory(error) or (not isinstance(error, ParapetError) and told(error) is not None)


def is_broken_device(error: BaseException) -> bool:
    """Whether a card has failed in a way that makes every later call of this process fail too."""
    return any(type(link).__name__ == "AcceleratorError" or _says(link, _CARD) for link in causes(error))


_CARD = re.compile("CUDA error:")


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, its cause or context, and so on, up to the first ParapetError (not included).

    A library may wrap the cause in an error of its own whose text does not name it: torch.onnx does.
    """
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and not isinstance(link, ParapetError) and not any(link is each for each in seen):
        yield link
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _says(error: BaseException, words: re.Pattern[str]) -> bool:
    """Whether the text of a library's error has `words`; errors of the system are told by their number instead."""
    if isinstance(error, _OWN_WORDS) or (isinstance(error, OSError) and error.errno is not None):
        return False
    return words.search(str(error)) is not None


def disk_full(error: BaseException) -> WorkError:
    """The error for the user if `is_disk_full`."""
    place = getattr(error, "filename", None)
    where = f" (while writing {place})" if place else ""
    return WorkError(f"the disk is full{where}; free some space and run the same command again: what is done is kept.")


def is_closed(error: BaseException) -> bool:
    """Whether the operating system, or a library in its own words, said that a file may not be written or read."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return True
    return _says(error, _CLOSED)


_CLOSED = re.compile("Permission denied|PermissionDenied|Read-only file system|ReadOnlyFilesystem|readonly database"
                     "|unable to open database file")


def closed(error: BaseException) -> InputError:
    """The error for the user if `is_closed`."""
    cure = ("mend its permissions, or give another one that you may read" if _is_unreadable(error) else
            "give a folder that you may write to, or mend its permissions")
    return InputError(f"{closed_place(error)}; {cure}.")


def closed_place(error: BaseException) -> str:
    """The beginning of a sentence: which file cannot be read or written, and why."""
    place = getattr(error, "filename", None) or "a file that is needed"
    # SQLAlchemy puts the statement behind what is wrong with it.
    why = getattr(error, "strerror", None) or " ".join(str(error).partition("\n[SQL: ")[0].split())
    return f"{place} cannot be {'read' if _is_unreadable(error) else 'written'} ({why})"


def _is_unreadable(error: BaseException) -> bool:
    """Whether the file may not be read: the system's error does not say if reading or writing was refused."""
    place = getattr(error, "filename", None)
    if not isinstance(place, str | bytes | os.PathLike) or getattr(error, "errno", None) == errno.EROFS:
        return False
    path = Path(os.fsdecode(place))
    if os.path.lexists(path):
        # Path.is_dir raises PermissionError where it may not look.
        return not _may(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)  # noqa: PTH112
    # A file in a folder that may not be entered looks like a missing file.
    above = next((folder for folder in path.parents if os.path.lexists(folder)), None)
    return above is not None and not _may(above, os.X_OK)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


# Errors of a path that no file or folder can have, and what to do. ESPIPE: `files.file_digest`.
_NO_PLACE = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the link, which leads to itself, or give another place",
    errno.ESPIPE: "put a file there, or give another one",
    errno.ENOTDIR: "move the file away that stands where a folder should, or give another folder",
    errno.EISDIR: "move the folder away that stands where a file should, or give another place",
    errno.EEXIST: "move away what stands there, or give another place",
}

# What Path.resolve says of it.
_LOOP = "Symlink loop from "


def is_no_place(error: BaseException) -> bool:
    """Whether the path of the error cannot be that of the file or folder that is needed."""
    return isinstance(error, OSError) and error.errno in _NO_PLACE and error.filename is not None


def no_place(error: OSError) -> InputError:
    """The error for the user if `is_no_place`."""
    where = named(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else "a file"
    return InputError(f"{where} cannot be used ({error.strerror}); {_NO_PLACE[error.errno or 0]}.")


def told(error: BaseException) -> ParapetError | None:
    """The error for the user if the system refused something, a ParapetError itself; None for any other error."""
    if isinstance(error, ParapetError):
        return error
    return next((sentence for link in causes(error) if (sentence := _told(link)) is not None), None)


def _told(error: BaseException) -> ParapetError | None:
    if is_disk_full(error):
        return disk_full(error)
    if isinstance(error, OSError) and is_no_place(error):
        return no_place(error)
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):
        return InputError(f"{str(error).removeprefix(_LOOP).strip(chr(39))} cannot be used (it is a link to itself); "
                          f"{_NO_PLACE[errno.ELOOP]}.")
    if (isinstance(error, OSError) and error.errno in _LACKING) or _says(error, _LACKS):
        return _lacking(error)
    return closed(error) if is_closed(error) else None


def _lacking(error: BaseException) -> WorkError:
    place = getattr(error, "filename", None)
    why = getattr(error, "strerror", None) or " ".join(str(error).split())
    return WorkError(f"{f'{place}: ' if place else ''}the machine could not do what is needed ({why}); see to that, or "
                     "run less beside it, and run the same command again: what is done is kept.")
