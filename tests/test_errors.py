"""What libraries and the system say where memory or the disk ends, or a card has failed."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from parapet.errors import InputError, WorkError, is_broken_device, is_out_of_memory


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
    ValueError("shapes (3, 4)"), RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(28, "full"),
    InputError("the recipe is called out of memory; choose another name."), WorkError("not enough memory of it")])
def test_nothing_else_is_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_card_that_has_failed() -> None:
    assert is_broken_device(torch.AcceleratorError("an illegal memory access was encountered"))
    assert is_broken_device(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_broken_device(RuntimeError("shape mismatch"))


def test_a_native_function_that_could_not_make_its_exception_lacked_memory() -> None:
    assert is_out_of_memory(SystemError("<function export> returned NULL without setting an exception"))
