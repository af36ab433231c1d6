"""House rules that a machine can check: who may import whom, and what the hook may cost."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "ha_agent"

MAY_IMPORT = {
    "core": {"core"},
    "adapters": {"core", "adapters"},
    "daemon": {"core", "adapters", "daemon"},
    "cli": {"core", "adapters", "cli"},
    "supzcli": {"core", "adapters", "supzcli"},
    "lab": {"core", "adapters", "lab"},
    "web": {"core", "adapters", "web"},
    "listener": {"core", "adapters"},
    "alert_sender": {"core", "adapters"},
    "payload_look": {"core"},
    "peer_entry": {"core", "adapters"},
    "conf_check": set(),
    "witness_entry": set(),
    "witness_host": set(),
    "keeper": set(),
    "__main__": {"cli"},
    "__init__": set(),
}
"""What each package, and each module on top, may import of the others."""

LATE = {("cli/main.py", "daemon"), ("cli/main.py", "lab")}
"""Imports inside a function: the command that needs it pays for it."""

FLOORS = (
    {"standing", "events", "waker"},
    {"upkeep", "parts", "replication"},
    {"peer", "payload", "programs", "votes"},
    {"role"},
    {"drill", "checks", "drift"},
    {"account"},
    {"alerts"},
    {"operations"},
    {"group"},
    {"rooms"},
    {"agent"},
    {"main"},
)
"""The rooms of the daemon, the lowest first. A module imports from floors below its own, and from its own room."""


def modules() -> dict[str, pathlib.Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def tree_of(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, however deep. Without their expressions, of which there are ten times as many."""
    for item in body:
        yield item
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(item, name, ())
            yield from statements(below if isinstance(below, list) else ())


@functools.cache
def imports_of(path: pathlib.Path) -> frozenset[str]:
    """What a module imports, wherever in it, as dotted names; modules of ours are named themselves, not what is in them."""
    found: set[str] = set()
    for item in statements(tree_of(path).body):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module:
            inner = {f"{item.module}.{alias.name}" for alias in item.names}
            found |= inner & MODULES.keys() or {item.module}
    return frozenset(found)


def layer_of(module: str) -> str:
    """The package below ha_agent, or the module on top, that ``module`` belongs to; __init__ for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def own_imports(module: str) -> set[str]:
    """The modules of ours that ``module`` imports. The package itself holds the version alone and may be had by all."""
    return {name for name in imports_of(MODULES[module]) if name.split(".")[0] == "ha_agent"} - {"ha_agent"}


def test_every_module_has_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} == MAY_IMPORT.keys()


def test_layers_import_downwards_only() -> None:
    wrong = []
    for module, path in MODULES.items():
        for target in own_imports(module):
            layer = layer_of(target)
            late = (path.relative_to(PACKAGE).as_posix(), layer) in LATE
            if layer not in MAY_IMPORT[layer_of(module)] and not late:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def floor_of(module: str) -> int:
    """The floor of a module of the daemon."""
    room = module.split(".")[2]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def daemon_modules() -> list[str]:
    return [module for module in MODULES if module.startswith("ha_agent.daemon.")]


def test_every_room_of_the_daemon_has_a_floor() -> None:
    assert {module.split(".")[2] for module in daemon_modules()} == set().union(*FLOORS)


def test_rooms_of_the_daemon_import_downwards_only() -> None:
    wrong = []
    for module in daemon_modules():
        for target in own_imports(module):
            if not target.startswith("ha_agent.daemon.") or target.split(".")[2] == module.split(".")[2]:
                continue
            if floor_of(target) >= floor_of(module):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_no_imports_go_in_a_circle() -> None:
    """Those for types alone count, too: what a module knows of is what it can be followed to."""
    graph = {module: own_imports(module) & MODULES.keys() for module in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_the_page_on_architecture_names_every_module_of_the_daemon_in_its_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {row[0].strip("`/"): row[1] for row in re.findall(r"^\| (`[a-z]+/?`) \| ([^|]*)\|", page, re.MULTILINE)}
    missing = []
    for module in daemon_modules():
        parts = module.split(".")[2:]
        if len(parts) == 2 and f"`{parts[1]}`" not in rows.get(parts[0], ""):
            missing.append(module)
        elif len(parts) == 1 and MODULES[module].name != "__init__.py":
            if parts[0] not in rows and f"`{parts[0]}.py`" not in page and f"`{parts[0]}." not in page:
                missing.append(module)
    named = {f"{room}.{name}" for room, cell in rows.items() for name in re.findall(r"`([a-z_]+)`", cell)}
    here = {module.split(".", 2)[2] for module in daemon_modules()}
    assert missing == [] and named - here == set()


STANDING = PACKAGE / "daemon" / "standing.py"


def writers_of_standing() -> set[str]:
    """The methods of Standing below its line "for role/ alone"."""
    text = STANDING.read_text(encoding="utf-8")
    below = text[text.index("# ---- for role/ alone") :]
    return set(re.findall(r"    def ([a-z]\w*)\(", below))


def test_only_role_changes_what_a_node_is() -> None:
    writers = writers_of_standing()
    assert {"become", "claim_epoch", "note_plan"} <= writers
    wrong = []
    for module in daemon_modules():
        for item in ast.walk(tree_of(MODULES[module])):
            of_standing = isinstance(item, ast.Attribute) and ast.unparse(item.value).split(".")[-1].strip("_") == "standing"
            if not of_standing or not isinstance(item, ast.Attribute):
                continue
            if isinstance(item.ctx, ast.Store) or (item.attr in writers and ".role." not in module):
                wrong.append(f"{module}: {ast.unparse(item)}")
    assert wrong == []


def test_only_the_ledger_itself_sets_the_known_epoch() -> None:
    wrong = []
    for module in daemon_modules():
        for item in ast.walk(tree_of(MODULES[module])):
            if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store) and item.attr in ("known", "_known"):
                wrong.append(module)
    assert set(wrong) == {"ha_agent.daemon.replication.ledger"}


def test_no_assertion_can_end_the_agent() -> None:
    """What must hold is seen to by the code. What may be otherwise, above all after an ``await``, is handled."""
    wrong = []
    for module in MODULES:
        if module.startswith(("ha_agent.daemon", "ha_agent.adapters")):
            wrong += [f"{module}:{i.lineno}" for i in statements(tree_of(MODULES[module]).body) if isinstance(i, ast.Assert)]
    assert wrong == []


def named_in(text: str) -> set[str]:
    """The modules of ours that a source's import statements name, by the text alone: to parse all tests takes a second."""
    found: set[str] = set()
    for module, names in re.findall(r"^ *from (ha_agent[\w.]*) import (\([^)]*\)|[^\n]*)", text, re.MULTILINE):
        found |= {f"{module}.{name}" for name in re.findall(r"\w+", names)} & MODULES.keys() or {module}
    return (found | set(re.findall(r"^ *import (ha_agent[\w.]*)", text, re.MULTILINE))) & MODULES.keys()


def test_the_unit_tests_reach_every_module_of_the_daemon() -> None:
    """Whatever can be tried only as root is tried too seldom. Excepted are the modules that wire, start and end."""
    wiring = {"ha_agent.daemon.agent", "ha_agent.daemon.main"}
    reached: set[str] = set()
    fresh = {name for path in (ROOT / "tests" / "unit").glob("*.py") for name in named_in(path.read_text(encoding="utf-8"))}
    while fresh:
        reached |= fresh
        fresh = {name for module in fresh for name in own_imports(module)} - reached
    assert not reached & wiring
    assert {module for module in daemon_modules() if MODULES[module].name != "__init__.py"} - wiring - reached == set()


def test_the_core_imports_nothing_that_can_see_the_world() -> None:
    allowed = {
        "__future__",
        "base64",
        "binascii",
        "codecs",
        "collections",
        "configparser",
        "tomllib",
        "dataclasses",
        "difflib",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "ipaddress",
        "json",
        "math",
        "posixpath",
        "re",
        "shlex",
        "struct",
        "textwrap",
        "time",
        "types",
        "typing",
        "unicodedata",
        "urllib",
        "zlib",
        "ha_agent",
    }
    for path in (PACKAGE / "core").rglob("*.py"):
        used = {module.split(".")[0] for module in imports_of(path)}
        assert used <= allowed, f"{path.name}: {used - allowed}"
        assert not re.search(r"time\.(time|monotonic|localtime\(\))", path.read_text(encoding="utf-8")), (
            f"{path.name} reads a clock"
        )


def test_paramiko_is_never_imported_when_a_module_is() -> None:
    for path in PACKAGE.rglob("*.py"):
        top = {
            n
            for item in tree_of(path).body
            if isinstance(item, (ast.Import, ast.ImportFrom))
            for n in ([a.name for a in item.names] if isinstance(item, ast.Import) else [item.module or ""])
        }
        assert not any(name.split(".")[0] == "paramiko" for name in top), path


def imported_at_start(module: str) -> set[str]:
    """All that is imported with ``module``: what a function imports is not."""
    found: set[str] = set()
    fresh = {module}
    while fresh:
        found |= fresh
        named: set[str] = set()
        for name in fresh & MODULES.keys():
            for item in tree_of(MODULES[name]).body:
                if isinstance(item, ast.Import):
                    named |= {alias.name for alias in item.names}
                elif isinstance(item, ast.ImportFrom) and item.module:
                    named |= {f"{item.module}.{alias.name}" for alias in item.names} | {item.module}
        fresh = named - found
    return found


def test_what_is_answered_by_the_agent_starts_without_an_event_loop() -> None:
    """asyncio is a third of what these would import, and the listener stays in memory."""
    for name in (
        "listener",
        "peer_entry",
        "cli.main",
        "cli.status_cmd",
        "cli.check_cmd",
        "cli.switchover_cmd",
        "supzcli.main",
    ):
        assert "asyncio" not in imported_at_start(f"ha_agent.{name}"), name
    assert "asyncio" in imported_at_start("ha_agent.daemon.main"), "or this test finds nothing"


def test_the_parser_process_needs_nothing_but_the_standard_library_and_supervisor() -> None:
    used = {module.split(".")[0] for module in imports_of(PACKAGE / "conf_check.py")}
    assert used - {"supervisor"} <= set(sys.stdlib_module_names)


def test_what_runs_alone_needs_nothing_but_the_standard_library() -> None:
    """Two go to hosts that have nothing else of the project, the third is locked in memory."""
    for name in ("witness_entry.py", "witness_host.py", "keeper.py"):
        assert {module.split(".")[0] for module in imports_of(PACKAGE / name)} <= set(sys.stdlib_module_names)


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


def test_no_cancellation_is_lost_in_a_wait() -> None:
    """asyncio.wait_for of Python 3.11 (Debian 12) loses one that comes with the end of what it waits for (CPython gh-86296).

    asyncio.timeout does not. A task that was told to end and goes on keeps the agent from ending.
    """
    found = [module for module, path in MODULES.items() if "asyncio.wait_for(" in path.read_text(encoding="utf-8")]
    assert found == []


def test_supzcli_starts_without_what_supervisorctl_does_not_need() -> None:
    """``dataclasses`` brings ``inspect`` along, which alone made its start a tenth slower than supervisorctl's."""
    script = "import sys, ha_agent.supzcli.main, ha_agent.supzcli.controller; print(*sys.modules)"
    ours = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dataclasses", "inspect", "asyncio", "argparse", "ha_agent.core.settings"} & set(ours)
