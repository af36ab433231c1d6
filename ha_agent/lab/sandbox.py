"""The file system of a lab node: this machine's to be read, with private /etc, /var, /run, /tmp and the lab's packages.

Runs inside fresh mount and process namespaces, so that everything is gone when their last process is. Also a command of its
own: ``python -m ha_agent.lab.sandbox -- COMMAND`` runs COMMAND in such a place with nothing but a loopback network, where
it can leave nothing behind; the tests run so.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

from ha_agent.lab import cgroups

MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
INNER = "/run/lab"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = ("keepalived", "sshd", "ssh", "rsync", "supervisord", "ip")

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SYSROOT = os.environ.get("HA_AGENT_LAB_SYSROOT", os.path.join(PROJECT, "build", "sysroot"))

COVERED = ("/etc/", "/var/", "/run/", "/tmp/", "/root/")
"""What a node has of its own."""

WRITABLE = ("/opt", "/srv", "/home")
"""What a node sees as this machine has it. What a node writes there is its own, and goes with it."""

USERS = (
    ("sshd", "sshd:x:{id}:65534::/run/sshd:/usr/sbin/nologin", None),
    ("redis", "redis:x:{id}:{id}::/var/lib/redis:/usr/sbin/nologin", "redis:x:{id}:"),
    ("ha-agent", None, "ha-agent:x:{id}:alice,ha-agent-web"),
    ("ha-agent-read", None, "ha-agent-read:x:{id}:bob"),
    ("alice", "alice:x:{id}:{id}:an operator:/run/lab/alice:/bin/sh", "alice:x:{id}:"),
    ("bob", "bob:x:{id}:{id}:may look:/run/lab/bob:/bin/sh", "bob:x:{id}:"),
    ("ha-agent-web", "ha-agent-web:x:{id}:{id}:the dashboard:/:/usr/sbin/nologin", "ha-agent-web:x:{id}:"),
    ("carol", "carol:x:{id}:{id}:may do nothing:/run/lab/carol:/bin/sh", "carol:x:{id}:"),
)
PEOPLE = ("alice", "bob", "carol")
"""Ordinary users of a node."""


ORPHANS_S = 10.0


class SandboxFailed(Exception):
    """The place could not be made; the text says which part and why."""


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises ``SandboxFailed``."""
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [os.fsencode(text) for text in (source, target, kind)]
    if libc.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(data)) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise SandboxFailed(f"mount {kind or 'bind'} {source} on {target}: {reason}")


def bind(source: str, target: str) -> None:
    """Makes ``source`` appear at ``target``, with what is mounted below it."""
    mount(source, target, "", MS_BIND | MS_REC)


def missing_programs() -> list[str]:
    """What a node needs and this place does not have."""
    return [name for name in NEEDED if shutil.which(name, path=PATH) is None]


def _closed_homes(paths: Iterable[str]) -> list[str]:
    """Directories such as /root that keep ordinary users from what lies below them; only the topmost ones.

    A node covers them, because its users run the code that lies there.
    """
    closed = set()
    for path in paths:
        above = os.path.dirname(path)
        while above not in ("/", ""):
            if not os.stat(above).st_mode & 0o001:
                closed.add(above)
            above = os.path.dirname(above)
    return sorted(c for c in closed if not any(c != o and c.startswith(o + "/") for o in closed))


def mount_cgroups() -> bool:
    """Shows this place its control group as the root of all; says whether it has one of its own."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        if "0::/\n" not in file.read():
            return False
    try:
        mount("cgroup2", cgroups.ROOT, "cgroup2")
    except SandboxFailed:
        return False
    return True


def _visible_paths(extra: Iterable[str]) -> list[str]:
    """Directories that must stay visible and writable: the project, the environment, and ``extra``."""
    wanted = {PROJECT, sys.prefix, sys.base_prefix, SYSROOT, *extra} - {"/", "/usr", "/usr/local"}
    found = sorted(path for path in wanted if os.path.isdir(path))
    return [p for p in found if not any(p != q and p.startswith(q + "/") for q in found)]


def build_file_system(keep: Iterable[str] = ()) -> None:
    """Turns the current mount namespace into a node's. ``keep``: directories that must stay visible and writable.

    Raises ``SandboxFailed``. Only in namespaces of its own: everything here would change the machine otherwise.
    """
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    merge_packages()
    homes = [h for h in _closed_homes([PROJECT, sys.prefix, sys.base_prefix]) if not f"{h}/".startswith(COVERED)]
    visible = _visible_paths(keep)
    stage = "/mnt"
    mount("tmpfs", stage, "tmpfs", 0, "mode=755")
    for number, path in enumerate(visible):
        os.mkdir(f"{stage}/{number}")
        bind(path, f"{stage}/{number}")
    os.mkdir(f"{stage}/etc")
    mount("tmpfs", f"{stage}/etc", "tmpfs", 0, "mode=755")
    subprocess.run(["cp", "-a", "/etc/.", f"{stage}/etc/"], check=True, stderr=subprocess.DEVNULL)
    if os.path.isdir(os.path.join(SYSROOT, "etc")):
        subprocess.run(["cp", "-an", os.path.join(SYSROOT, "etc") + "/.", f"{stage}/etc/"], check=True)
    mount(f"{stage}/etc", "/etc", "", MS_BIND)
    for path, mode in (
        ("/var", "755"),
        ("/run", "755"),
        ("/tmp", "1777"),
        ("/root", "755"),
        *((home, "755") for home in homes),
    ):
        mount("tmpfs", path, "tmpfs", 0, f"mode={mode}")
    for path in WRITABLE:
        _lay_over(path, f"{stage}{path}")
    _fill_var()
    for number, path in enumerate(visible):
        os.makedirs(path, exist_ok=True)
        bind(f"{stage}/{number}", path)
    _detach_root()
    _name_loopback()
    _add_users()
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs", MS_NOSUID)
    # Where this process is, is a directory of what was mounted before.
    os.chdir(os.getcwd())
    # Whatever else this machine has is there to be read alone.
    mount("none", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _lay_over(path: str, upper: str) -> None:
    """Has what is written below ``path`` stay in memory. Where the kernel stacks no more overlays it can only be read."""
    if not os.path.isdir(path):
        return
    for folder in ("new", "work"):
        os.makedirs(f"{upper}/{folder}")
    try:
        mount("overlay", path, "overlay", 0, f"lowerdir={path},upperdir={upper}/new,workdir={upper}/work")
    except SandboxFailed:
        bind(path, path)
        mount("none", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def merge_packages() -> None:
    """Lays the unpacked packages over /usr, which becomes read-only either way. Only in a private mount namespace.

    Raises ``SandboxFailed`` where programs are missing and no packages were unpacked.
    """
    if missing_programs():
        if not os.path.isdir(os.path.join(SYSROOT, "usr")):
            raise SandboxFailed(
                f"not installed: {', '.join(missing_programs())}; fetch them with: make setup (or install them)"
            )
        mount("overlay", "/usr", "overlay", MS_RDONLY, f"lowerdir={SYSROOT}/usr:/usr")
        return
    mount("/usr", "/usr", "", MS_BIND | MS_REC)
    mount("none", "/usr", "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _fill_var() -> None:
    for name, mode in (("lib", 0o755), ("log", 0o755), ("cache", 0o755), ("spool", 0o755), ("tmp", 0o1777)):
        os.makedirs(f"/var/{name}", exist_ok=True)
        os.chmod(f"/var/{name}", mode)
    for name, target in (("run", "/run"), ("lock", "/run/lock")):
        os.symlink(target, f"/var/{name}")
    for path in ("/run/lock", "/run/sshd", INNER, "/var/lib/redis", "/var/log/supervisor"):
        os.makedirs(path, exist_ok=True)


def _detach_root() -> None:
    """Gives root a home and a shell of its own: sshd's sessions must not run this machine's ~/.bashrc."""
    home = f"{INNER}/home"
    os.makedirs(home, mode=0o700, exist_ok=True)
    with open("/etc/passwd", encoding="utf-8") as file:
        rows = file.read().splitlines()
    with open("/etc/passwd", "w", encoding="utf-8") as file:
        for row in rows:
            file.write((f"root:x:0:0:root:{home}:/bin/sh" if row.startswith("root:") else row) + "\n")


def _name_loopback() -> None:
    """A machine that was made in a hurry has no /etc/hosts."""
    with open("/etc/hosts", "a+", encoding="utf-8") as file:
        file.seek(0)
        if "localhost" not in file.read():
            file.write("127.0.0.1 localhost\n")


def _add_users() -> None:
    """Adds the users and groups that the packages' maintainer scripts would have made."""
    for number, (name, user, group) in enumerate(USERS):
        for path, line in (("/etc/passwd", user), ("/etc/group", group)):
            with open(path, encoding="utf-8") as file:
                known = {row.split(":", 1)[0] for row in file}
            if line is not None and name not in known:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(line.format(id=64700 + number) + "\n")
    shutil.chown("/var/lib/redis", "redis", "redis")
    for name in PEOPLE:
        home = f"{INNER}/{name}"
        os.makedirs(home, mode=0o755, exist_ok=True)
        shutil.chown(home, name, name)


def _run_inside(command: list[str], *, has_cgroup: bool) -> int:
    """Process 1 of the sandbox: makes the place, runs ``command``, ends everything."""
    try:
        build_file_system(keep=[os.getcwd()])
        if has_cgroup:
            mount_cgroups()
    except (SandboxFailed, subprocess.CalledProcessError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = subprocess.Popen(command, env={**os.environ, "PATH": f"{sys.prefix}/bin:{PATH}"})
    # The command cleans up at Ctrl-C (pytest has no other way), so this is what SIGTERM means to it, too.
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
    # At a Ctrl-C the terminal has told the command already: a second one would keep it from cleaning up.
    signal.signal(signal.SIGINT, lambda *_: None)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            _await_orphans()
            return os.waitstatus_to_exitcode(status)


def _await_orphans() -> None:
    """Waits a while for what the command has left: a lab whose owner was killed takes itself down, disks and all."""
    deadline = time.monotonic() + ORPHANS_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)


def _end_inside(pid: int) -> None:
    """Has the process 1 that unshare (``pid``) waits for end its command; unshare itself ignores signals meanwhile."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        os.kill(int(file.read()), signal.SIGTERM)


def unshare_words(cgroup: str | None, *, network: bool = True) -> list[str]:
    """The command that starts another one as process 1 of fresh namespaces, which die with it.

    ``cgroup``: the directory of a control group that it enters, and has as the root of its own; None where there is none.
    """
    words = [*cgroups.enter_words(cgroup), "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork"]
    words += ["--kill-child=SIGKILL", "--propagation", "private"]
    return words + (["--net"] if network else []) + (["--cgroup"] if cgroup else [])


def main() -> int:
    """Command line: ``python -m ha_agent.lab.sandbox -- COMMAND...``; the exit status is COMMAND's."""
    parser = argparse.ArgumentParser(prog="ha-agent-sandbox", description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cgroup", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.inside:
        code = _run_inside(options.command, has_cgroup=options.cgroup)
        return code if code >= 0 else 128 - code
    if os.geteuid() != 0:
        print("this needs root (namespaces with real daemons in them): run it again with sudo", file=sys.stderr)
        return 2
    with _own_cgroup() as cgroup:
        return _run_and_wait(options.command, cgroup)


@contextlib.contextmanager
def _own_cgroup() -> Iterator[str | None]:
    """A control group for the sandbox, for the time of the block: its directory, None where this machine has none to give.

    A process of its own removes it, because a sandbox that is killed does not.
    """
    path = cgroups.make("ha-agent-sandbox")
    if path is None:
        yield None
        return
    words = ["setsid", "/bin/sh", "-c", cgroups.KEEP, path]
    keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert keeper.stdin is not None
    try:
        yield path
    finally:
        keeper.stdin.close()
        keeper.wait()


def _run_and_wait(command: list[str], cgroup: str | None) -> int:
    own = ["--cgroup"] if cgroup else []
    inner = [sys.executable, "-m", "ha_agent.lab.sandbox", "--inside", *own, "--", *command]
    words = ["setpriv", "--pdeathsig", "KILL", *unshare_words(cgroup), *inner]
    child = subprocess.Popen(words)
    # The terminal sends Ctrl-C to everyone; this process only waits for the one inside to clean up.
    signal.signal(signal.SIGINT, lambda *_: None)
    # SIGTERM comes to this process alone, as from timeout(1); should SIGKILL follow, all that is inside dies with it.
    signal.signal(signal.SIGTERM, lambda *_: _end_inside(child.pid))
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
