"""The votes on the dashboard's page, in both languages, as the other faces say them."""

from __future__ import annotations

import dataclasses
import re

import pytest

from ha_agent.core.account import VotesAccount
from ha_agent.web.render import Words, render
from tests.unit.test_votes_faces import ALL, STANDBY, entry

SILENT = dataclasses.replace(ALL, promised=("node-a", "node-b"), witness_silent_s=240.0, witness_problem="<refused>")


def page(votes: VotesAccount, language: str) -> str:
    """The line as people read it."""
    node = entry(votes)
    html = render("_votes.html", Words(language, None, None, "", 1000.0), v=node["votes"], n=node, node={"name": "node-a"})
    return " ".join(re.sub(r"<(/?[a-z][^>]*)>", "", html).split())


@pytest.mark.parametrize(
    ("votes", "english", "chinese"),
    [
        (ALL, "3 of 3: self, node-b, witness", "3 票中的 3 票: 本节点, node-b, 见证"),
        (
            SILENT,
            "2 of 3: self, node-b; witness silent for 4 min &lt;refused&gt;",
            "3 票中的 2 票: 本节点, node-b; 见证无应答已有 4 min &lt;refused&gt;",
        ),
        (dataclasses.replace(ALL, promised=()), "0 of 3: none of them", "3 票中的 0 票: 一票也没有"),
        (STANDBY, "its vote is node-b&#39;s", "它的一票给了 node-b"),
        (dataclasses.replace(STANDBY, to=""), "its vote is nobody&#39;s", "它的一票未给任何节点"),
        (
            dataclasses.replace(STANDBY, adopts=True, keeper_problem="nobody is there"),
            "its vote is node-b&#39;s; what runs is not held by votes yet; no keeper nobody is there",
            "它的一票给了 node-b; 正在运行的程序尚未受表决约束; 没有看守进程 nobody is there",
        ),
    ],
)
def test_the_votes_are_one_line_of_the_page(votes: VotesAccount, english: str, chinese: str) -> None:
    assert page(votes, "en") == english
    assert page(votes, "zh") == chinese
