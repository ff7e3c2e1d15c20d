"""Run a command in which whoever opens a socket dies: `python guard.py COMMAND...`.

A seccomp filter, which children inherit, answers every `socket` call with SIGSYS, but for those of the family AF_UNIX,
which reach nothing outside the machine. That the command ends well therefore proves that none was opened.
"""

import ctypes
import os
import platform
import sys

ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""Audit number of the machine, and number of the system call `socket`."""
AF_UNIX = 1
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
"""BPF instructions: load a word of the call's data, compare and jump, return a verdict."""
ALLOW, KILL = 0x7FFF0000, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2


class Instruction(ctypes.Structure):
    """`struct sock_filter`."""

    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint))


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction)))


def forbid_sockets() -> None:
    """Install the filter in this process, for good."""
    audit, socket_call = ARCHITECTURES[platform.machine()]
    instructions = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 0, 5, audit),  # a call by another convention is answered like a socket
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 2, socket_call),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
        (EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, KILL),
    ]
    program = Program(
        len(instructions), (Instruction * len(instructions))(*(Instruction(*one) for one in instructions))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "seccomp is not available")


if __name__ == "__main__":
    forbid_sockets()
    os.execvp(sys.argv[1], sys.argv[1:])
