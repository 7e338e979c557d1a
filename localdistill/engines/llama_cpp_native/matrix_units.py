"""Hides AMX from llama.cpp on machines that announce it but crash when it is used, as some virtual machines do.

Linux gives a process the tiles only after it asked. A seccomp filter on that one call makes llama.cpp believe that it
was refused, so that it falls back to its AVX code, rearranged weights included. Must do nothing else and nowhere but
in a child of ours."""

from __future__ import annotations

import ctypes
import platform
import sys

_ARCH_PRCTL, _ASK_FOR_STATE = 158, 0x1023
_X86_64 = 0xC000_003E
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0001
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16


class _Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step))]


def can_hide() -> bool:
    """True where AMX can exist and be hidden."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")


def hide_matrix_units() -> bool:
    """Make this process's requests for tile state fail from now on. False when the system does not let it."""
    if not can_hide():
        return False
    steps = (_Step * 8)(
        _Step(_LOAD, 0, 0, _ARCHITECTURE_AT), _Step(_IS_EQUAL, 0, 5, _X86_64),
        _Step(_LOAD, 0, 0, _NUMBER_AT), _Step(_IS_EQUAL, 0, 3, _ARCH_PRCTL),
        _Step(_LOAD, 0, 0, _FIRST_ARGUMENT_AT), _Step(_IS_EQUAL, 0, 1, _ASK_FOR_STATE),
        _Step(_RETURN, 0, 0, _REFUSE), _Step(_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(steps), steps)
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    if prctl(_SET_NO_NEW_PRIVILEGES, 1, None, 0, 0):
        return False
    failed: int = prctl(_SET_SECCOMP, _FILTER, ctypes.cast(ctypes.pointer(program), ctypes.c_void_p), 0, 0)
    return failed == 0
