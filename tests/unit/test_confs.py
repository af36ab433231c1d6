"""The active set: a conf that cannot be loaded keeps no other one out."""

from __future__ import annotations

from ha_agent.core.confs import Program, Verdict, refuse_local, render_conf, select_confs, split_sections


def good(*names: str, **groups: tuple[str, ...]) -> Verdict:
    return Verdict(None, tuple(Program(n, (n,)) for n in names), groups)


def test_a_bad_conf_blocks_only_itself() -> None:
    chosen = select_confs({"a.conf": good("a"), "b.conf": Verdict("numprocs=l"), "c.conf": good("c")})
    assert chosen.loadable == ("a.conf", "c.conf")
    assert chosen.problems == {"b.conf": "numprocs=l"}
    assert chosen.groups == {"a": ("a",), "c": ("c",)}


def test_a_name_of_a_local_program_or_group_is_a_problem_of_its_conf_alone() -> None:
    verdicts = {"a.conf": good("a"), "g.conf": good("one", web=("one",)), "bad.conf": Verdict("bad"), "c.conf": good("c")}
    checked = refuse_local(verdicts, frozenset({"c", "web", "other"}))
    assert {path for path, verdict in checked.items() if verdict.problem} == {"c.conf", "g.conf", "bad.conf"}
    assert (checked["c.conf"].taken, checked["g.conf"].taken, checked["bad.conf"].problem) == (("c",), ("web",), "bad")
    assert select_confs(checked).groups == {"a": ("a",)} and refuse_local(verdicts, frozenset()) == verdicts


def test_of_two_confs_with_one_program_name_the_first_path_is_loaded() -> None:
    chosen = select_confs({"b.conf": good("x"), "a.conf": good("x", "y")})
    assert chosen.loadable == ("a.conf",)
    assert "already defined in a.conf" in chosen.problems["b.conf"]


def test_a_group_is_loaded_without_members_that_are_not_there() -> None:
    verdicts = {"g.conf": good("one", web=("one", "two", "three")), "two.conf": good("two")}
    chosen = select_confs(verdicts)
    assert chosen.groups == {"web": ("one", "two")}
    assert "three" in chosen.warnings["g.conf"]
    text = "[program:one]\ncommand=x\n[group:web]\nprograms=one,\n  two,three\npriority=5\n"
    assert render_conf(text, "/r", chosen.groups).endswith("[group:web]\nprograms=one,two\npriority=5\n")


def test_a_group_without_any_member_is_left_out() -> None:
    chosen = select_confs({"g.conf": good("one", web=("two",))})
    assert (
        render_conf("[program:one]\ncommand=x\n[group:web]\nprograms=two\n", "/r", chosen.groups)
        == "[program:one]\ncommand=x\n"
    )


def test_here_is_the_directory_of_the_registry_and_not_of_the_copy() -> None:
    assert (
        render_conf("command=%(here)s/run %(ENV_X)s", "/etc/supervisor/conf.d/sub", {})
        == "command=/etc/supervisor/conf.d/sub/run %(ENV_X)s"
    )


def test_programs_that_do_not_start_by_themselves_are_known() -> None:
    verdict = Verdict(None, (Program("x", ("x",), autostart=False),))
    assert select_confs({"x.conf": verdict}).not_started == {"x"}


def test_what_a_node_lacks_is_a_warning_and_no_reason_to_leave_the_conf_out() -> None:
    chosen = select_confs({"x.conf": Verdict(None, (Program("x", ("x",), missing=("executable /x is missing",)),))})
    assert chosen.loadable == ("x.conf",)
    assert "executable /x is missing" in chosen.warnings["x.conf"]


def test_sections_are_cut_without_losing_a_byte() -> None:
    text = "; head\n[a]\nx=1\n\n[b]\ny=[2]\n"
    assert "".join(part for _, part in split_sections(text)) == text
    assert [name for name, _ in split_sections(text)] == [None, "a", "b"]


def test_groups_are_started_by_priority_and_then_by_name() -> None:
    verdicts = {
        "a.conf": Verdict(None, (Program("a", ("a",)),), {}, {"a": 999}),
        "b.conf": Verdict(None, (Program("b", ("b",)),), {}, {"b": 5}),
        "c.conf": Verdict(None, (Program("c", ("c",)),), {"crew": ("c",)}, {"c": 1, "crew": 50}),
    }
    assert select_confs(verdicts).order == ("b", "crew", "a")
