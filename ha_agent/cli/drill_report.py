"""The report of a failover-test for people: as text, as one self-contained HTML page, and several compared. Pure."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ha_agent.adapters.terminal import paint
from ha_agent.core.drill import CUTS
from ha_agent.core.start_run import say_path
from ha_agent.core.width import count_text

Report = Mapping[str, Any]

FIGURES = (
    ("detection_s", "detection: VRRP MASTER on the new node, or the first sign of the agent"),
    ("vip_moved_s", "VIP on the new node"),
    ("released_s", "released by the old node, verified"),
    ("interlock_s", "interlock: waited for the old node's word"),
    ("load_s", "load: confs given to supervisord"),
    ("takeover_done_s", "takeover done"),
    ("first_program_s", "first program started"),
    ("last_program_s", "last program started"),
    ("all_running_s", "every program RUNNING or failed"),
)

FIGURES_OF_CUTS = (
    ("cut_s", "cut for"),
    ("vip_both_s", "VIP on both nodes: keepalived knows of no votes, and is told to give up again"),
)
"""What a cut is about, in place of the figures of a takeover that must not come."""

WIDTH, LEFT, RIGHT, ROW = 1000, 190, 20, 22
COLOURS = ("#2f6f9f", "#c46a1b")
MAX_ROWS = 60
"""Largest number of programs that are drawn; the figures count all of them."""


def seconds_text(value: object) -> str:
    """A measured time: "0.324 s", "-" where there was none."""
    return f"{value:.3f} s" if isinstance(value, (int, float)) and not isinstance(value, bool) else "-"


def measured_text(row: Mapping[str, Any]) -> str:
    """What was measured for an objective, beside its limit."""
    value = row["measured"]
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if row["name"].endswith("_s"):
        return f"{seconds_text(value)} (at most {seconds_text(float(row['limit']))})"
    return f"{value} (at most {row['limit']})" if row["limit"] is not None else str(value)


def figure_rows(report: Report) -> list[tuple[str, str]]:
    """The measured figures as (what, value)."""
    figures = FIGURES_OF_CUTS if report["mode"] in CUTS else FIGURES
    rows = [(text, seconds_text(report["figures"].get(name))) for name, text in figures]
    rows += [(f"outage seen by {name}", seconds_text(value)) for name, value in report["outage_s"].items()]
    gaps = report["program_gap_s"]
    if gaps:
        ordered = sorted(gaps.values())
        middle = seconds_text(float(ordered[len(ordered) // 2]))
        rows.append(
            (
                f"out of service, {count_text(len(gaps), 'program')}",
                f"{middle} median, {seconds_text(float(ordered[-1]))} longest",
            )
        )
    if order := report.get("order"):
        chain = say_path([(str(step["name"]), float(step["at_s"])) for step in order["path"] or ()])
        rows.append(("programs that wait for others", f"{seconds_text(order['took_s'])}: {chain or 'none was started'}"))
    doubled = ", ".join(f"{name} for {seconds_text(s)}" for name, s in report["overlap_s"].items())
    rows.append(("programs seen on both nodes", doubled or "none"))
    failed = ", ".join(f"{name} ({why})" for name, why in report["failed"].items())
    rows.append(("programs that do not run afterwards", failed or "none"))
    equal = {True: "equal", False: "DIFFERENT", None: "not known"}[report["registry_equal"]]
    rows.append(("registries afterwards", equal))
    if report.get("back"):
        rows.append(("and back", f"{report['back']['outcome']}, {seconds_text(report['back']['took_s'])}"))
    rows.append(
        ("clocks of the two nodes", f"{report['clock_offset_s']:+.4f} s apart, known to {report['clock_error_s']:.4f} s")
    )
    return rows


def render_text(report: Report) -> str:
    """The report as text, the verdict last."""
    rows = figure_rows(report)
    width = max(len(what) for what, _ in rows)
    lines = [
        f"failover-test {report['id']}: {report['mode']}, {report['from']} -> {report['to']}, "
        f"watched from {report['asked_on']}"
    ]
    lines += [f"  {what.ljust(width)}  {value}" for what, value in rows]
    lines.append("")
    for row in report["objectives"]:
        mark = paint("met   ", "green") if row["met"] else paint("NOT MET", "red")
        lines.append(f"  {mark}  {row['text']}: {measured_text(row)}")
    verdict = paint("passed", "green") if report["passed"] else paint("FAILED", "red")
    return "\n".join([*lines, "", f"verdict: {verdict}"])


def render_list(reports: Sequence[Report]) -> str:
    """One line a report, for comparing them over time."""
    if not reports:
        return "no reports are kept on this node"
    head = ("id", "mode", "from", "detection", "VIP", "all running", "worst outage", "verdict")
    rows = [head]
    for report in reports:
        outages = report["outage_s"] or report["program_gap_s"]
        figures = report["figures"]
        rows.append(
            (
                report["id"],
                report["mode"],
                report["from"],
                seconds_text(figures.get("detection_s")),
                seconds_text(figures.get("vip_moved_s")),
                seconds_text(figures.get("all_running_s")),
                seconds_text(max(outages.values(), default=None)),
                "passed" if report["passed"] else "FAILED",
            )
        )
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


# ---- the page ---------------------------------------------------------------------------------------------------

STYLE = """\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d5d9de;--good:#1c7a3d;--bad:#b3261e;--dim:#66707a}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#15181c;--line:#3a4047;--good:#5fc27e;
--bad:#ff8a80;--dim:#9aa4ae}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:64rem;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{text-align:left;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid var(--line);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.verdict{font-size:1.3rem;font-weight:600}svg{width:100%;height:auto}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .grid{stroke:var(--line)}
svg line.mark{stroke:var(--dim);stroke-dasharray:3 3}svg text.mark{fill:var(--dim);font-size:10px}
svg .fault{stroke:var(--bad);stroke-width:2}
small,.dim{color:var(--dim)}@media print{body{margin:0;max-width:none}}"""


def _escape(text: object) -> str:
    return html.escape(str(text))


def render_html(report: Report) -> str:
    """The report as a page that needs nothing but itself, with the time line as a picture."""
    at = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(float(report["fault_at"])))
    verdict = "passed" if report["passed"] else "failed"
    title = f"Failover test {report['id']}"
    figures = "".join(f"<tr><td>{_escape(w)}<td class=n>{_escape(v)}</tr>" for w, v in figure_rows(report))
    objectives = "".join(
        f"<tr><td>{_escape(row['text'])}<td class=n>{_escape(measured_text(row))}"
        f"<td class={'good' if row['met'] else 'bad'}>{'met' if row['met'] else 'not met'}</tr>"
        for row in report["objectives"]
    )
    timeline = "".join(
        f"<tr><td class=n>{row['s']:+.3f} s" + "".join(f"<td>{_escape(row[k])}" for k in ("node", "code", "text")) + "</tr>"
        for row in report["timeline"]
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{_escape(title)}</h1>
<p>Fault: <b>{_escape(report["mode"])}</b> on {_escape(report["from"])} at {_escape(at)}; active afterwards:
{_escape(report["to"])}. Watched from {_escape(report["asked_on"])} by ha-agent {_escape(report["version"])}.</p>
<p class="verdict {"good" if report["passed"] else "bad"}">Verdict: {verdict}</p>
<h2>Objectives</h2><table>{objectives}</table>
<h2>Time line</h2>{render_svg(report)}
<p class=dim>Seconds after the fault, by the clock of {_escape(report["asked_on"])}; a bar is the time for which a program's
processes were seen on a node.</p>
<h2>Figures</h2><table>{figures}</table>
<h2>Events of both nodes</h2><table>{timeline}</table>
</body></html>
"""


def render_svg(report: Report) -> str:
    """The time line as a picture: when each program was seen on which node, and when which probe was answered."""
    nodes = list(report["stretches"])
    programs = sorted({p for by in report["stretches"].values() for p in by})
    shown = programs[:MAX_ROWS]
    probes = [(row["text"], row["s"]) for row in report["timeline"] if row["code"] in ("probe-lost", "probe-back")]
    end = max([*(v for v in report["figures"].values() if v is not None), *(s for _, s in probes), 1.0]) * 1.15 + 0.2
    begin = -0.15 * end
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)

    def x(second: float) -> float:
        return float(round(LEFT + (min(max(second, begin), end) - begin) * scale, 1))

    rows = len(shown) + len(report["outage_s"])
    height = 66 + ROW * rows + 20
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="time line of the failover test">']
    parts += _axis(begin, end, x, height)
    # The first two are often close: one is labelled to the left, one to the right.
    for name, label, side in (
        ("vip_moved_s", "VIP", -1),
        ("takeover_done_s", "started", 1),
        ("all_running_s", "running", 1),
    ):
        if (at := report["figures"].get(name)) is not None:
            parts.append(f'<line class="mark" x1="{x(at)}" y1="44" x2="{x(at)}" y2="{height - 22}"/>')
            anchor = "start" if side > 0 else "end"
            parts.append(f'<text class="mark" x="{x(at) + 3 * side}" y="42" text-anchor="{anchor}">{label}</text>')
    y = 56
    for name in report["outage_s"]:
        moments = [s for text, s in probes if text.startswith(name)]
        parts.append(f'<text x="0" y="{y + 13}">{_escape(name[:30])}</text>')
        parts.append(_bar(x(begin), x(end), y, "#6aa56a", f"{name}: answered"))
        if len(moments) == 2:
            parts.append(_bar(x(moments[0]), x(moments[1]), y, "#b3261e", f"{name}: no answer"))
        y += ROW
    for program in shown:
        parts.append(f'<text x="0" y="{y + 13}">{_escape(program[:30])}</text>')
        for node, colour in zip(nodes, COLOURS, strict=False):
            for start, stop in report["stretches"][node].get(program, ()):
                if stop >= begin and start <= end:
                    parts.append(_bar(x(start), x(stop), y, colour, f"{program} on {node}: {start:+.3f} s to {stop:+.3f} s"))
        y += ROW
    legend = 0
    for node, colour in zip(nodes, COLOURS, strict=False):
        parts.append(f'<rect x="{LEFT + legend}" y="{height - 15}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + legend + 18}" y="{height - 5}">runs on {_escape(node)}</text>')
        legend += 180
    if len(programs) > len(shown):
        parts.append(f'<text x="{LEFT + legend}" y="{height - 5}">and {len(programs) - len(shown)} more programs</text>')
    return "".join([*parts, "</svg>"])


def _bar(left: float, right: float, y: float, colour: str, title: str) -> str:
    width = max(1.0, round(right - left, 1))
    shape = f'x="{left}" y="{y}" width="{width}" height="{ROW - 6}" rx="2" fill="{colour}"'
    return f"<rect {shape}><title>{_escape(title)}</title></rect>"


def _axis(begin: float, end: float, x: Any, height: int) -> list[str]:
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300) if (end - begin) / s <= 12), 600)
    parts = []
    tick = -int(-begin / step) * step
    while tick <= end:
        parts.append(f'<line class="grid" x1="{x(tick)}" y1="30" x2="{x(tick)}" y2="{height - 22}"/>')
        parts.append(f'<text x="{x(tick)}" y="22" text-anchor="middle">{tick:g} s</text>')
        tick = round(tick + step, 3)
    parts.append(f'<line class="fault" x1="{x(0)}" y1="26" x2="{x(0)}" y2="{height - 22}"><title>fault</title></line>')
    return parts
