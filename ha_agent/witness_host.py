"""The part of ``ha-agent witness install`` that is done at the witness host: looks, writes what was shown, takes it back.

The command sends this one file there and has ``python3`` (3.7 and later) run it as root; it imports nothing but the
standard library, and nothing of it stays. One word as its argument, a request as JSON on standard input, the answer on
standard output.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from typing import Any

USER_HOME = "/var/lib/ha-agent-witness"
PROGRAM_S = 30.0


class Failed(Exception):
    """It cannot be done; the text says why, and what to do."""


def run(*words: str) -> str:
    """The output of a program. Raises ``Failed``."""
    path = shutil.which(words[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise Failed(f"{words[0]} is missing there")
    done = subprocess.run([path, *words[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROGRAM_S)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise Failed(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "replace")


def read_text(path: str) -> str | None:
    """A file's text; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def find_home(user: str) -> str | None:
    """The user's home; None where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return None


def find_authorized(user: str, home: str) -> str:
    """The first file that sshd asks for the user's keys (sshd_config(5), AuthorizedKeysFile: %h, %u and %% are replaced, and
    what is no absolute path lies below the home)."""
    name = ".ssh/authorized_keys"
    for line in run("sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1").splitlines():
        words = line.split()
        if words[0:1] == ["authorizedkeysfile"] and len(words) > 1:
            name = words[1]
    if name == "none":
        raise Failed(f"sshd there reads no keys of {user}: AuthorizedKeysFile is none")
    parts = name.replace("%%", "\0").replace("%h", home).replace("%u", user).replace("\0", "%")
    return os.path.join(home, parts)


def look(request: dict[str, Any]) -> dict[str, Any]:
    """What is there. Changes nothing."""
    if os.geteuid() != 0:
        raise Failed("this must be root there: --user root, or a user who may run sudo without a password")
    user = request["user"]
    home = find_home(user)
    authorized = find_authorized(user, home or USER_HOME)
    return {
        "name": os.uname().nodename,
        "version": list(sys.version_info[:2]),
        "python": sys.executable,
        "has_user": home is not None,
        "has_agent": os.path.exists("/etc/ha-agent/agent.toml"),
        "boot_id": (read_text("/proc/sys/kernel/random/boot_id") or "").strip(),
        "authorized_path": authorized,
        "authorized": read_text(authorized),
        "program": read_text(request["program"]),
    }


def write_text(path: str, text: str, mode: int) -> None:
    """Puts a file of root's in its place in one step, with the owner and the mode of the one that was there."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if os.path.exists(path):
                before = os.stat(path)
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def make_user(user: str) -> None:
    """A user of its own, whom no password lets in: "*" is none, and locks nobody out who has a key, as "!" would without
    PAM (sshd(8), AUTHENTICATION)."""
    words = ["--system", "--user-group", "--no-create-home", "--home-dir", USER_HOME, "--shell", "/bin/sh"]
    run("useradd", *words, "--password", "*", user)


def own_records(user: str) -> None:
    """The directory of the records is the user's alone; what it lets in is root's to write."""
    found = pwd.getpwnam(user)
    os.makedirs(USER_HOME, mode=0o700, exist_ok=True)
    os.chown(USER_HOME, found.pw_uid, found.pw_gid)
    os.chmod(USER_HOME, 0o700)


def change_files(changes: list[dict[str, Any]]) -> None:
    """Writes or removes what was shown, unless somebody has changed it since. Raises ``Failed`` before the first."""
    for change in changes:
        if read_text(change["path"]) != change["old"]:
            raise Failed(f"{change['path']} has changed since it was shown; nothing was written: run it again")
    for change in changes:
        if change["new"] is not None:
            write_text(change["path"], change["new"], change["mode"])
        elif change["old"] is not None:
            os.unlink(change["path"])


def apply(request: dict[str, Any]) -> dict[str, Any]:
    """Makes the user where it is to be made, and writes the files. What was done before a failure stays; again continues."""
    user = request["user"]
    if request["make_user"] and find_home(user) is None:
        make_user(user)
    if find_home(user) is None:
        raise Failed(f"there is no user {user}")
    own_records(user)
    change_files(request["changes"])
    return {}


def remove(request: dict[str, Any]) -> dict[str, Any]:
    """Takes back the files and the record; the user, too, where no record and no key of it is left. ``said``: what stays."""
    user, said = request["user"], []
    change_files(request["changes"])
    for ending in (".json", ".lock", ".json.new"):
        path = os.path.join(USER_HOME, request["record"] + ending)
        if os.path.exists(path):
            os.unlink(path)
    for folder in request["folders"]:
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
    left = os.listdir(USER_HOME) if os.path.isdir(USER_HOME) else []
    if left:
        said.append(f"{USER_HOME} is left, with {', '.join(sorted(left)[:5])}")
    elif request["remove_user"] and find_home(user) == USER_HOME:
        try:
            run("userdel", user)
            os.rmdir(USER_HOME)
        except (Failed, OSError) as error:
            said.append(str(getattr(error, "strerror", None) or error))
    return {"said": said}


def main() -> int:
    """Does one part, and prints its answer."""
    parts = {"look": look, "apply": apply, "remove": remove}
    try:
        answer = parts[sys.argv[1]](json.load(sys.stdin))
    except (Failed, OSError, subprocess.SubprocessError) as error:
        answer = {"failure": str(getattr(error, "strerror", None) or error)}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
