"""Debian packages for the lab, unpacked beside the project instead of installed: the machine itself stays as it is.

No maintainer script runs, so no service can be started or enabled. Only what the machine lacks is fetched. Uses the
standard library alone, because it runs before the virtual environment exists.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from ha_agent.core.reasons import reason_of

LAB: tuple[str, ...] = ("keepalived", "openssh-server", "openssh-client", "rsync", "supervisor", "iproute2", "procps")
LAB += ("redis-server", "lighttpd", "curl", "e2fsprogs")
TESTS: tuple[str, ...] = (
    "systemd",
    "nftables",
    "chromium",
    "chromium-driver",
    "fonts-droid-fallback",
    "prometheus",
    "etcd-server",
    "zsh",
    "fish",
)
BENCH = ("lsyncd", "inotify-tools")
DEB = ("debhelper", "dh-python", "pybuild-plugin-pyproject", "python3-all", "python3-setuptools", "dpkg-dev", "lintian")
MACHINES = ("systemd-container", "debootstrap", "iproute2")
SETS = {"lab": LAB, "tests": LAB + TESTS, "bench": LAB + TESTS + BENCH, "deb": DEB, "machines": MACHINES}

DEBIANS_PYTHON = "/usr/bin/python3"
"""What runs the packages' modules; another Python's byte code would be of no use to it."""

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class PackagesFailed(Exception):
    """The packages could not be fetched; the text is apt's own last word on it."""


def apt_options(cache: str) -> list[str]:
    """Options that keep apt's lists and archives in ``cache`` and leave those of the machine alone."""
    pairs = {
        "Dir::State::Lists": f"{cache}/lists",
        "Dir::Cache": cache,
        "Dir::Cache::archives": f"{cache}/archives",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
        "APT::Get::Assume-Yes": "1",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [word for key, value in pairs.items() for word in ("-o", f"{key}={value}")]


def run_apt(cache: str, *words: str) -> None:
    """Runs apt-get. Raises ``PackagesFailed``."""
    done = subprocess.run(["apt-get", *apt_options(cache), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("E:")]
        raise PackagesFailed(f"apt-get {words[0]}: {said[-1] if said else done.stderr.strip()[-300:]}")


def make_root(into: str) -> None:
    """An empty tree in which /bin, /lib and their like are below /usr, as on every Debian 12."""
    shutil.rmtree(into, ignore_errors=True)
    for name in MERGED:
        os.makedirs(os.path.join(into, "usr", name), exist_ok=True)
        os.symlink("usr/" + name, os.path.join(into, name))


def unpack(package: str, into: str) -> None:
    """Unpacks one .deb. Not by ``dpkg-deb -x``: that replaces the links of a merged /usr by directories.

    Raises ``PackagesFailed``.
    """
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        words = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", into]
        code = subprocess.run(words, stdin=reader.stdout).returncode
    if code or reader.returncode:
        raise PackagesFailed(f"{package} cannot be unpacked")


def fetch(names: tuple[str, ...], into: str) -> None:
    """Makes ``into`` hold the unpacked packages ``names`` and what they need beyond this machine. Idempotent.

    Raises ``PackagesFailed``; an unfinished tree is made again the next time.
    """
    stamp = os.path.join(into, ".packages")
    wanted = " ".join(names)
    if os.path.exists(stamp):
        with open(stamp, encoding="ascii") as file:
            if set(names) <= set(file.read().split()):
                return
    cache = os.path.join(os.path.dirname(os.path.abspath(into)), "apt")
    for name in ("lists/partial", "archives/partial"):
        os.makedirs(os.path.join(cache, name), exist_ok=True)
    print(f"fetching into {os.path.relpath(into)} (unpacked only; nothing is installed or started): {wanted}", flush=True)
    if shutil.which("apt-get") is None:
        raise PackagesFailed("apt-get is missing: the lab needs Debian, or these programs installed: " + wanted)
    run_apt(cache, "update")
    run_apt(cache, "install", "--download-only", "--no-install-recommends", *names)
    make_root(into)
    archives = os.path.join(cache, "archives")
    packages = sorted(name for name in os.listdir(archives) if name.endswith(".deb"))
    for name in packages:
        unpack(os.path.join(archives, name), into)
    with open(stamp, "w", encoding="ascii") as file:
        file.write(wanted + "\n")
    print(f"unpacked {len(packages)} packages", flush=True)


def compile_python(into: str) -> None:
    """Compiles the Python modules of the packages, as their maintainer scripts would have done. Idempotent.

    A node's /usr is read-only: each of its daemons would compile them anew at each start.
    """
    modules = os.path.join(into, "usr", "lib", "python3", "dist-packages")
    if os.path.isdir(modules) and os.access(DEBIANS_PYTHON, os.X_OK):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPYCACHEPREFIX"}
        subprocess.run([DEBIANS_PYTHON, "-m", "compileall", "-q", modules], check=True, env=environment)


def main() -> int:
    """Command line: ``python3 -m ha_agent.lab.packages SET --into DIRECTORY``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--into", default="build/sysroot")
    options = parser.parse_args()
    try:
        fetch(SETS[options.set], options.into)
        compile_python(options.into)
    except (PackagesFailed, OSError, subprocess.CalledProcessError) as error:
        print(f"packages: {reason_of(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
