"""The exceptions of Parapet, which the command line maps to exit codes, and the messages for system errors."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from parapet.quoting import name as named


class ParapetError(Exception):
    """Base class of every error that Parapet raises intentionally; its text is one sentence for the user."""

    exit_code = 1


class InputError(ParapetError):
    """The input is wrong; the text says what, where, what is allowed and what to do. Exit code 2."""

    exit_code = 2


class WorkError(ParapetError):
    """The input is right but the work failed, for example because the disk is full. Exit code 1."""


class ProcessDied(ParapetError):
    """A child process crashed before it returned a result; its work may be tried again.

    `how` is a short text, equal for equal causes, for example the name of a signal.
    """

    def __init__(self, text: str, how: str = "process died") -> None:
        super().__init__(text)
        self.how = how


class Fault(Exception):
    """An unexpected exception in a child process; `trace` is its traceback in that process."""

    def __init__(self, text: str, trace: str) -> None:
        super().__init__(text)
        self.trace = trace


class PromotionRefused(ParapetError):
    """The gate refused a promotion; the text lists every reason. Exit code 3."""

    exit_code = 3


class Interrupted(ParapetError):
    """The work was stopped by Ctrl-C, SIGTERM or the end of the parent process; the state is saved. Exit code 130."""

    exit_code = 130


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk is full, from the errno or from the text of a library's error (safetensors, SQLite)."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _says(error, _FULL)


_FULL = re.compile("No space left on device|StorageFull|disk is full|Disk quota")
# Messages of torch, oneDNN, CUDA, cuDNN, cuBLAS, onnxruntime and the kernel, and of torch.compile for a MemoryError.
# The last one is from Python, for a native function that failed without an exception.
_NO_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory|bad_alloc|bad allocation|ALLOC_FAILED"
                        r"|(?:^|\s)MemoryError(?::|$)|returned NULL without setting an exception")
# Missing resources and I/O failures of the machine, which do not depend on the content of a file.
_LACKING = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EIO, errno.ESTALE)
_LACKS = re.compile("Too many open files|can't start new thread|Resource temporarily unavailable|Input/output error")
# Errors of these types are never errors of the machine, so their text, which any code may choose, is not searched.
_OWN_WORDS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, NotImplementedError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether main memory or GPU memory ran out; the causes of `error` are searched too.

    False for a ParapetError, whose text is already a sentence for the user.
    """
    return any(isinstance(link, MemoryError) or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
               or _says(link, _NO_MEMORY) for link in causes(error))


def is_of_the_machine(error: BaseException) -> bool:
    """Whether the machine lacked a resource: memory, disk space, a permission, a thread or a file descriptor.

    Such an error gives no information about the work or the content of a file. False for a ParapetError.
    """
    return is_out_of_memory(error) or (not isinstance(error, ParapetError) and told(error) is not None)


def is_broken_device(error: BaseException) -> bool:
    """Whether a GPU has failed so that every later call in this process fails too."""
    return any(type(link).__name__ == "AcceleratorError" or _says(link, _CARD) for link in causes(error))


_CARD = re.compile("CUDA error:")


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, its cause or context, and so on, up to the first ParapetError (not included).

    A library may wrap the cause in its own error whose text does not mention it, as torch.onnx does.
    """
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and not isinstance(link, ParapetError) and not any(link is each for each in seen):
        yield link
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _says(error: BaseException, words: re.Pattern[str]) -> bool:
    """Whether the text of a library's error matches `words`; False for system errors, which have an errno."""
    if isinstance(error, _OWN_WORDS) or (isinstance(error, OSError) and error.errno is not None):
        return False
    return words.search(str(error)) is not None


def disk_full(error: BaseException) -> WorkError:
    """The error for the user where `is_disk_full` is true."""
    place = getattr(error, "filename", None)
    where = f" (while writing {place})" if place else ""
    return WorkError(f"the disk is full{where}; free some space and run the same command again: what is done is kept.")


def is_closed(error: BaseException) -> bool:
    """Whether the permission to read or write a file was denied, from the errno or from a library's text."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return True
    return _says(error, _CLOSED)


_CLOSED = re.compile("Permission denied|PermissionDenied|Read-only file system|ReadOnlyFilesystem|readonly database"
                     "|unable to open database file")


def closed(error: BaseException) -> InputError:
    """The error for the user where `is_closed` is true."""
    cure = ("correct its permissions, or give another one that you may read" if _is_unreadable(error) else
            "give a folder that you may write to, or correct its permissions")
    return InputError(f"{closed_place(error)}; {cure}.")


def closed_place(error: BaseException) -> str:
    """The start of a sentence: which file cannot be read or written, and why."""
    place = getattr(error, "filename", None) or "a file that is needed"
    # SQLAlchemy appends the SQL statement to the reason.
    why = getattr(error, "strerror", None) or " ".join(str(error).partition("\n[SQL: ")[0].split())
    return f"{place} cannot be {'read' if _is_unreadable(error) else 'written'} ({why})"


def _is_unreadable(error: BaseException) -> bool:
    """Whether the file is not readable; the system's error does not say whether reading or writing was denied."""
    place = getattr(error, "filename", None)
    if not isinstance(place, str | bytes | os.PathLike) or getattr(error, "errno", None) == errno.EROFS:
        return False
    path = Path(os.fsdecode(place))
    if os.path.lexists(path):
        # os.path.isdir, because Path.is_dir raises PermissionError without access.
        return not _may(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)  # noqa: PTH112
    # A file in a folder without search permission appears to be missing.
    above = next((folder for folder in path.parents if os.path.lexists(folder)), None)
    return above is not None and not _may(above, os.X_OK)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


# Errors of paths that cannot be used for the needed file or folder, and the advice. ESPIPE is from `files.file_digest`.
_NO_PLACE = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "remove the link, which leads to itself, or give another place",
    errno.ESPIPE: "put a file there, or give another one",
    errno.ENOTDIR: "move the file away that stands where a folder should, or give another folder",
    errno.EISDIR: "move the folder away that stands where a file should, or give another place",
    errno.EEXIST: "move away what stands there, or give another place",
}

# The message of Path.resolve for a link to itself.
_LOOP = "Symlink loop from "


def is_no_place(error: BaseException) -> bool:
    """Whether the path in the error cannot be used for the needed file or folder."""
    return isinstance(error, OSError) and error.errno in _NO_PLACE and error.filename is not None


def no_place(error: OSError) -> InputError:
    """The error for the user where `is_no_place` is true."""
    where = named(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else "a file"
    return InputError(f"{where} cannot be used ({error.strerror}); {_NO_PLACE[error.errno or 0]}.")


def told(error: BaseException) -> ParapetError | None:
    """The error for the user where `error` or one of its causes is a system error; a ParapetError itself unchanged.

    None for any other error.
    """
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
