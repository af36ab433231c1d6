"""House rules that a machine can check: who may import whom, and what the hook may cost."""

from __future__ import annotations

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "ha_agent"

MAY_IMPORT = {
    "core": {"core"},
    "adapters": {"core", "adapters"},
    "daemon": {"core", "adapters", "daemon"},
    "cli": {"core", "adapters", "cli"},
    "supzcli": {"core", "adapters", "cli", "supzcli"},
    "lab": {"core", "adapters", "cli", "lab"},
    "web": {"core", "adapters", "web"},
    "listener.py": {"core", "adapters"},
    "alert_sender.py": {"adapters"},
}
LATE = {("cli/main.py", "daemon"), ("cli/main.py", "lab")}
"""Imports inside a function: the command that needs it pays for it."""


def imports_of(path: pathlib.Path) -> set[str]:
    found = set()
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module:
            found.add(item.module)
    return found


def test_layers_import_downwards_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        layer = relative.parts[0]
        if layer not in MAY_IMPORT:
            continue
        for module in imports_of(path):
            parts = module.split(".")
            if parts[0] == "ha_agent" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                if parts[1] not in MAY_IMPORT[layer] and (relative.as_posix(), parts[1]) not in LATE:
                    wrong.append(f"{relative} imports {module}")
    assert wrong == []


def test_the_core_imports_nothing_that_can_see_the_world() -> None:
    allowed = {
        "__future__",
        "base64",
        "binascii",
        "codecs",
        "collections",
        "configparser",
        "dataclasses",
        "difflib",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "ipaddress",
        "json",
        "posixpath",
        "re",
        "shlex",
        "struct",
        "textwrap",
        "time",
        "types",
        "typing",
        "urllib",
        "zlib",
        "ha_agent",
    }
    for path in (PACKAGE / "core").glob("*.py"):
        used = {module.split(".")[0] for module in imports_of(path)}
        assert used <= allowed, f"{path.name}: {used - allowed}"
        assert not re.search(r"time\.(time|monotonic|localtime\(\))", path.read_text(encoding="utf-8")), (
            f"{path.name} reads a clock"
        )


def test_paramiko_is_never_imported_when_a_module_is() -> None:
    for path in PACKAGE.rglob("*.py"):
        top = {
            n
            for item in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(item, (ast.Import, ast.ImportFrom))
            for n in ([a.name for a in item.names] if isinstance(item, ast.Import) else [item.module or ""])
        }
        assert not any(name.split(".")[0] == "paramiko" for name in top), path


def test_the_parser_process_needs_nothing_but_the_standard_library_and_supervisor() -> None:
    used = {module.split(".")[0] for module in imports_of(PACKAGE / "conf_check.py")}
    assert used - {"supervisor"} <= set(sys.stdlib_module_names)


def test_the_hook_starts_no_program_on_its_ordinary_way() -> None:
    """Its whole cost is that of /bin/sh itself: a fork would double it."""
    text = (ROOT / "keepalived" / "ha-agent-notify").read_text(encoding="utf-8")
    code = [line.split("#")[0].strip() for line in text.splitlines() if not line.startswith("#")]
    words = {re.split(r"[\s;=]", line)[0] for line in code if line}
    builtins = {
        "[",
        "case",
        "esac",
        "if",
        "fi",
        "read",
        "set",
        "shift",
        "echo",
        "umask",
        "line",
        "state",
        "spool",
        "MASTER",
        "/bin/mkdir",
    }
    assert words <= builtins, words - builtins
    program = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in program if "$(" in line or "`" in line], "a command substitution forks"
    assert text.index('-d "$spool"') < text.index("/bin/mkdir"), "mkdir only where the spool is missing"
