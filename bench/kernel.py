"""Kernel: what Linux offers to lock a process in, called through ctypes; none of it needs privileges.

Standard library only: it runs in a worker before any other package is imported.  Sources: the manual pages
landlock(7), seccomp(2), user_namespaces(7), mount_setattr(2), and the kernel's headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 24, 38, 22
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9


def _call(name: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def _syscall(name: str, number: int, *arguments: object) -> int:
    """A system call that the C library may not know; integers go as 64 bits."""
    if _LIBC is None:
        raise OSError(errno.ENOSYS, f"{name}: no Linux")
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _call(name, int(_LIBC.syscall(ctypes.c_long(number), *wide)))


def _prctl(name: str, *arguments: int | object) -> None:
    if _LIBC is None:
        raise OSError(errno.ENOSYS, f"{name}: no Linux")
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    wide += [ctypes.c_ulong(0)] * (5 - len(wide))
    _call(name, int(_LIBC.prctl(*wide)))


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends (Linux; elsewhere nothing)."""
    if _LIBC is not None:
        _prctl("prctl(PDEATHSIG)", _PR_SET_PDEATHSIG, _SIGKILL)


# Landlock: which files may be read and written.

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
#: Rights on files that each version of the interface knows (index: version), and those that make sense on a file.
_HANDLED = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


def landlock_version() -> int:
    """Version of the Landlock interface, 0 where the kernel has none or it is switched off."""
    try:
        return _syscall("landlock_create_ruleset", _LANDLOCK_CREATE, 0, 0, 1)
    except OSError:
        return 0


def landlock(
    readable: Iterable[str], listable: Iterable[str], writable: Iterable[str], devices: Iterable[str]
) -> None:
    """Forbid this thread, and all that it starts, every file but these, every TCP port, and signals to others.

    Args:
        readable: files and folders to read and execute, with all below.
        listable: folders whose names may be listed, also below; not their files' contents.
        writable: folders in which everything is allowed but devices.
        devices: files to read, write and control.

    Raises:
        OSError: the kernel refuses.
    """
    version = landlock_version()
    handled = _HANDLED[min(version, len(_HANDLED) - 1)]
    attributes = struct.pack("=QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _syscall("landlock_create_ruleset", _LANDLOCK_CREATE, attributes, size, 0)
    try:
        _allow(ruleset, readable, handled & (_EXECUTE | _READ_FILE | _READ_DIR))
        _allow(ruleset, listable, _READ_DIR)
        _allow(ruleset, writable, handled & ~(1 << 6 | 1 << 11 | _IOCTL_DEV))
        _allow(ruleset, devices, handled & (_READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL_DEV))
        no_new_privileges()
        _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # what is not there needs no rule
            continue
        try:
            allowed = rights if Path(path).is_dir() else rights & _ON_FILES
            _syscall("landlock_add_rule", _LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", allowed, handle), 0)
        finally:
            os.close(handle)


def no_new_privileges() -> None:
    """No program that is started from here gains rights, set-uid or not."""
    _prctl("prctl(NO_NEW_PRIVS)", _PR_SET_NO_NEW_PRIVS, 1)


# Seccomp: which system calls are refused.

#: Numbers (x86_64, aarch64) of what a codec has no use for and what leads out of the process: sockets, other
#: processes, shared memory and queues of System V and POSIX, kernel keys, mounts, extended attributes, watches.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200), "listen": (50, 201),
    "accept4": (288, 242),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "inotify_add_watch": (254, 27),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
}  # fmt: skip
#: What alters the times and rights of any file of the same user: refused where no mount namespace makes it read-only.
_ALTERING: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
_FLOCK, _FCNTL, _CLONE, _CLONE3, _PRLIMIT = (73, 32), (72, 25), (56, 220), (435, 435), (302, 261)
#: fcntl's F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_NOTIFY: a lock on a file that both roles can
#: read would be a message from one to the other.
_LOCKING = (6, 7, 37, 38, 1024, 1026)
#: All CLONE_NEW* flags that clone takes.
_NEW_NAMESPACES = 0x7E020000

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def has_seccomp() -> bool:
    """Whether a filter of system calls can be set here."""
    return (
        _LIBC is not None
        and struct.calcsize("P") == 8
        and platform.machine() in _ARCHITECTURES
        and Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    )


def seccomp(*, altering: bool) -> None:
    """Refuse this thread, and all that it starts, the system calls above; they fail with EPERM.

    Args:
        altering: allow changing times and rights of files.

    Raises:
        OSError: the kernel refuses.
    """
    column, architecture = _ARCHITECTURES[platform.machine()]
    refused = {**_REFUSED, **({} if altering else _ALTERING)}
    refusal = _ERRNO | errno.EPERM
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),  # another architecture's numbers mean other calls
        (_RETURN, 0, 0, refusal),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000),  # x32
        (_RETURN, 0, 0, refusal),
    ]
    for numbers in refused.values():
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refusal)]
    code += [(_EQUAL, 0, 1, _FLOCK[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOLCK)]
    # The C library falls back to clone, whose flags can be looked at.
    code += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    code += _on_argument(_CLONE[column], 0, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), (_RETURN, 0, 0, refusal)])
    locks = [
        step for command in _LOCKING for step in ((_EQUAL, 0, 1, command), (_RETURN, 0, 0, _ERRNO | errno.ENOLCK))
    ]
    code += _on_argument(_FCNTL[column], 1, locks)
    # The limits of other processes of the same user could be read and set.
    code += _on_argument(_PRLIMIT[column], 0, [(_EQUAL, 1, 0, 0), (_RETURN, 0, 0, refusal)])
    code.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("=HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(buffer)))
    no_new_privileges()
    _prctl("prctl(SECCOMP)", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def _on_argument(
    number: int, argument: int, tests: list[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """Tests of a call's argument (its low half, little-endian); other calls pass by."""
    body = [(_LOAD, 0, 0, 16 + 8 * argument), *tests, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


# Namespaces: which processes, networks, queues and mounts are there at all.

NAMESPACES = {
    "mntns": 0x00020000,
    "ipcns": 0x08000000,
    "userns": 0x10000000,
    "pidns": 0x20000000,
    "netns": 0x40000000,
}
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1
_CAP_DAC_OVERRIDE = 1


def unshare(layers: Iterable[str]) -> None:
    """Move this process (pidns: its later children) to namespaces of its own.

    In a new user namespace the process keeps its user and group.

    Raises:
        OSError: the kernel, or a policy of this system, refuses.
    """
    wanted = set(layers)
    user, group = os.getuid(), os.getgid()
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "unshare: no Linux")
    flags = sum(flag for name, flag in NAMESPACES.items() if name in wanted)
    _call("unshare", int(_LIBC.unshare(ctypes.c_int(flags))))
    if "userns" in wanted:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def rearrange_mounts(folder: str, hidden: str) -> None:
    """In a mount namespace of its own: everything read-only, but `folder`; `hidden`, which holds it, otherwise empty.

    Shared memory (/dev/shm) becomes private.

    Raises:
        OSError: the kernel refuses, or is older than 5.12.
    """
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        _mount("tmpfs", hidden, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0700,size=1m")
        Path(folder).mkdir(parents=True)
        _mount(f"/proc/self/fd/{handle}", folder, "", _MS_BIND)
    finally:
        os.close(handle)
    shared = "/dev/shm"  # noqa: S108  # the folder itself, not a file in it
    private = [folder]
    if Path(shared).is_dir():
        _mount("tmpfs", shared, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=25%")
        private.append(shared)
    _mount_setattr("/", _AT_RECURSIVE, set_flags=_READ_ONLY)
    for path in private:
        _mount_setattr(path, 0, clear_flags=_READ_ONLY)


def mount_proc() -> bool:
    """Show only this namespace's processes in /proc; False where the system (a container, say) does not let it."""
    try:
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:
        return False
    return True


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    if _LIBC is None:
        raise OSError(errno.ENOSYS, "mount: no Linux")
    texts = [os.fsencode(text) for text in (source, target, kind)]
    result = _LIBC.mount(*texts, ctypes.c_ulong(flags), data.encode() or None)
    _call(f"mount {target}", int(result))


def _mount_setattr(path: str, flags: int, *, set_flags: int = 0, clear_flags: int = 0) -> None:
    attributes = struct.pack("=QQQQ", set_flags, clear_flags, 0, 0)
    _syscall("mount_setattr", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, attributes, len(attributes))


def has_admin() -> bool:
    """Whether this process may make namespaces without a user namespace (root outside of a container)."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> 21 & 1)
    except OSError:
        pass
    return False


def drop_capabilities() -> None:
    """Give up every privilege but, for root, to read what belongs to others."""
    if _LIBC is None:
        return
    kept = 0 if os.getuid() else 1 << _CAP_DAC_OVERRIDE
    for capability in range(64):
        if not kept >> capability & 1:
            try:
                _prctl("prctl(CAPBSET_DROP)", _PR_CAPBSET_DROP, capability)
            except OSError:  # without CAP_SETPCAP there is nothing to drop; beyond the last there are none
                break
    header = struct.pack("=Ii", 0x20080522, 0)
    _, permitted = _capabilities(header)
    kept &= permitted
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _call("capset", int(_LIBC.capset(header, data)))


def _capabilities(header: bytes) -> tuple[int, int]:
    """Effective and permitted capabilities."""
    data = ctypes.create_string_buffer(24)
    if _LIBC is not None:
        _call("capget", int(_LIBC.capget(ctypes.create_string_buffer(header), data)))
    words = struct.unpack("=6I", data.raw)
    return words[0] | words[3] << 32, words[1] | words[4] << 32
