"""What libraries and the system say where memory or the disk ends, or a card has failed."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pytest
import torch

from parapet.errors import (
    InputError,
    WorkError,
    causes,
    is_broken_device,
    is_of_the_machine,
    is_out_of_memory,
    told,
)


@pytest.mark.parametrize("error", [
    MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("std::bad_alloc"), RuntimeError("bad allocation"), RuntimeError("could not create a primitive: out of "
                                                                                 "memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer")],
    ids=lambda error: str(error)[:30])
def test_want_of_memory_is_seen_in_everybodys_words(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_want_of_memory_as_torch_and_numpy_really_say_it() -> None:
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(1 << 55)
    with pytest.raises(MemoryError) as numpys:
        np.empty(1 << 55)
    assert is_out_of_memory(torchs.value) and is_out_of_memory(numpys.value)


@pytest.mark.parametrize("error", [
    ValueError("shapes (3, 4)"), ValueError("out of memory"), RuntimeError("no weights for MemoryError-net"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/home/out of memory/x"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(28, "full"),
    InputError("the recipe is called out of memory; choose another name."), WorkError("not enough memory of it")])
def test_nothing_else_is_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_card_that_has_failed() -> None:
    assert is_broken_device(torch.AcceleratorError("an illegal memory access was encountered"))
    assert is_broken_device(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_broken_device(RuntimeError("shape mismatch"))


def test_a_native_function_that_could_not_make_its_exception_lacked_memory() -> None:
    assert is_out_of_memory(SystemError("<function export> returned NULL without setting an exception"))


class _Lacking(torch.nn.Module):
    """Its forward pass meets what a machine may lack."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(("error", "seen"), [
    (MemoryError(), is_out_of_memory), (RuntimeError("DefaultCPUAllocator: can't allocate memory"), is_out_of_memory),
    (SystemError("<function export> returned NULL without setting an exception"), is_out_of_memory),
    (OSError(errno.ENOSPC, "No space left on device"), told), (PermissionError(errno.EACCES, "denied", "graph"), told)])
def test_what_the_machine_lacked_is_seen_through_the_error_that_torch_onnx_makes_of_it(
        error: Exception, seen: Callable[[BaseException], object]) -> None:
    with pytest.raises(RuntimeError) as wrapped:
        torch.onnx.export(_Lacking(error).eval(), (torch.zeros(2, 1, 4, 4),), dynamo=True, verbose=False)
    assert type(wrapped.value) is not type(error) and "Failed to export" in str(wrapped.value)
    assert seen(wrapped.value) and is_of_the_machine(wrapped.value)


@pytest.mark.parametrize("error", [
    OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "Input/output error", "weights"),
    RuntimeError("can't start new thread"), RuntimeError("pthread_create failed: Resource temporarily unavailable")])
def test_a_machine_that_lacks_files_or_threads_is_told_as_that(error: Exception) -> None:
    assert is_of_the_machine(error)
    sentence = told(error)
    assert isinstance(sentence, WorkError)
    assert "the machine could not do what is needed (" in str(sentence) and str(sentence).endswith("done is kept.")


@pytest.mark.parametrize("error", [ValueError("Permission denied for tokens"), KeyError("Too many open files"),
                                   FileNotFoundError(errno.ENOENT, "No such file", "Permission denied")])
def test_words_of_somebody_s_own_code_are_not_the_machine_s(error: Exception) -> None:
    assert told(error) is None and not is_of_the_machine(error)


def test_want_of_memory_is_seen_through_an_error_that_was_raised_while_it_was_handled() -> None:
    with pytest.raises(RuntimeError) as caught:
        try:
            raise MemoryError
        except MemoryError:
            raise RuntimeError("library")  # noqa: B904
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        try:
            raise MemoryError
        except MemoryError:
            raise RuntimeError("library") from None
    assert not is_out_of_memory(caught.value)


def test_a_networks_own_failure_is_not_the_machines() -> None:
    with pytest.raises(RuntimeError) as wrapped:
        torch.onnx.export(_Lacking(ValueError("shapes")).eval(), (torch.zeros(2, 1, 4, 4),), dynamo=True, verbose=False)
    assert not is_of_the_machine(wrapped.value)


def test_the_cause_of_a_sentence_for_the_user_is_not_looked_at() -> None:
    sentence = InputError("the model cannot be called.")
    sentence.__cause__ = MemoryError()
    library = RuntimeError("wrapped")
    library.__cause__ = sentence
    assert not is_of_the_machine(sentence) and not is_of_the_machine(library)


def test_a_chain_of_causes_that_is_a_ring_ends() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second] and not is_of_the_machine(first)
