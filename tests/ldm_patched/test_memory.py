"""Running out of memory is recognised as what it is, however it is said."""

from __future__ import annotations

import errno

import pytest
import torch

from ldm_patched.modules.memory import ran_out


def test_what_torch_raises_for_a_processor() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)  # a petabyte
    assert ran_out(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory",
        "unable to mmap 16 bytes from file <x>: Cannot allocate memory (12)",
    ],
)
def test_what_drivers_and_libraries_say(text: str) -> None:
    assert ran_out(RuntimeError(text)) and not ran_out(ValueError(text))


def test_what_the_system_says() -> None:
    assert ran_out(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not ran_out(OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()], ids=repr)
def test_what_says_it_by_its_class(error: BaseException) -> None:
    assert ran_out(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 cannot be multiplied"), ValueError("out of memory"), KeyError("a")], ids=repr
)
def test_what_is_something_else(error: BaseException) -> None:
    assert not ran_out(error)
