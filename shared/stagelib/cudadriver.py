"""NVIDIA's driver, as much of it as it takes to feed an engine: memory, copies and one stream.

Called through ctypes, since `libcuda.so.1` is the one library that is there wherever a GPU can be used; NVIDIA's own
Python package would be one more to lock. Signatures are those of the CUDA driver API. Of it only
`gpu_name` was tried on a GPU.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagelib.api import StageError

MISSING = (
    "install NVIDIA's driver and, for containers, the NVIDIA Container Toolkit, then ask for the device with --device"
)
FULL = "the GPU's memory is full: end what else uses it, or take a smaller batch size"
_OUT_OF_MEMORY = 2
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_NAME_BYTES = 256


def open_driver() -> Any:
    """The driver's library; StageError where there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise StageError(f"there is no NVIDIA driver here: {error}", hint=MISSING) from error


def gpu_name(driver: Any) -> str:
    """The first GPU, as its driver calls it. `driver` as for `Gpu`; StageError where it finds none."""
    device = ctypes.c_int()
    _check(driver, "cuInit", 0)
    _check(driver, "cuDeviceGet", ctypes.byref(device), 0)
    return _name_of(driver, device)


def _name_of(driver: Any, device: ctypes.c_int) -> str:
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    return name.value.decode()


def _check(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        hint = FULL if code == _OUT_OF_MEMORY else MISSING
        raise StageError(f"NVIDIA's driver refused {function}: CUDA error {code}", hint=hint)


class Gpu:
    """The first GPU, its primary context current in this thread, and one stream."""

    def __init__(self, driver: Any) -> None:
        """`driver` is the library, or what stands in for it in tests. StageError where it finds no GPU."""
        self._driver = driver
        self._check("cuInit", 0)
        device, context, self._stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._check("cuDeviceGet", ctypes.byref(device), 0)
        self._check("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._check("cuCtxSetCurrent", context)
        self._check("cuStreamCreate", ctypes.byref(self._stream), 0)
        self.capability = f"{self._attribute(_MAJOR, device)}.{self._attribute(_MINOR, device)}"
        self.name = _name_of(driver, device)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return self._stream.value or 0

    def allocate(self, size: int) -> int:
        """The address of that many bytes on the device. They go when the process ends, as its session does."""
        pointer = ctypes.c_uint64()
        self._check("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device, in the stream's order."""
        source = array.ctypes.data_as(ctypes.c_void_p)
        self._check(
            "cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes), self._stream
        )

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Wait for the stream, and copy from the device."""
        array: NDArray[Any] = np.empty(shape, dtype)
        self.wait()
        target = array.ctypes.data_as(ctypes.c_void_p)
        self._check("cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))
        return array

    def wait(self) -> None:
        """Until everything in the stream is done."""
        self._check("cuStreamSynchronize", self._stream)

    def _attribute(self, attribute: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._check("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        return value.value

    def _check(self, function: str, *arguments: Any) -> None:
        _check(self._driver, function, *arguments)
