"""Requests: whatever a message holds, it is read as the operation's form or refused by name, and nothing else happens."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_agent.core import requests as req
from ha_agent.core.requests import Malformed, Request

FORMS: dict[str, tuple[type[Request], dict[str, Any], frozenset[str]]] = {
    "status": (req.StatusRequest, {"known": True}, frozenset()),
    "history": (req.HistoryRequest, {"count": 5, "since": 1.5, "before": "7:9"}, frozenset()),
    "journal": (req.JournalRequest, {"unit": "keepalived", "count": 5, "since": 1.5}, frozenset()),
    "count": (req.CountRequest, {"count": 5}, frozenset()),
    "contents": (req.ContentsRequest, {"paths": ["a.conf"]}, frozenset({"paths"})),
    "kept-read": (
        req.KeptReadRequest,
        {"generation": "1.2", "path": "a.conf", "sha256": "0" * 64},
        frozenset({"generation", "path", "sha256"}),
    ),
    "kept-prune": (req.KeptPruneRequest, {"generations": 3, "older_s": 60.0, "divergences": True}, frozenset()),
    "manifest": (req.ManifestRequest, {"look": True, "known": "x"}, frozenset()),
    "payload": (req.PayloadRequest, {"known": "x", "mine": "y"}, frozenset()),
    "restore": (
        req.RestoreRequest,
        {"generation": "1.2", "path": "a.conf", "sha256": "0" * 64, "there": True, "target": "b.conf"},
        frozenset({"generation", "path", "sha256"}),
    ),
    "judge": (req.JudgeRequest, {"confs": {"a.conf": "text"}}, frozenset({"confs"})),
    "registry-at": (req.RegistryAtRequest, {"at": 1.0}, frozenset({"at"})),
    "restore-at": (req.RestoreAtRequest, {"at": 1.0, "dry_run": True, "expected": "0" * 64}, frozenset({"at"})),
    "settings-apply": (req.SettingsApplyRequest, {"values": {"vrrp.router_id": 7}}, frozenset({"values"})),
    "maintenance": (req.MaintenanceRequest, {"on": True, "for_s": 60.0, "reason": "why"}, frozenset({"on"})),
    "hand-over": (req.HandOverRequest, {"force": True}, frozenset()),
    "standby": (req.StandbyRequest, {"on": True, "reason": "disks", "force": True}, frozenset({"on"})),
    "peer-is-off": (req.PeerIsOffRequest, {"peer": "b", "reason": "burnt"}, frozenset({"peer"})),
    "drill-begin": (req.DrillBeginRequest, {"drill": "x", "for_s": 60.0}, frozenset({"drill", "for_s"})),
    "drill-fault": (
        req.DrillFaultRequest,
        {"drill": "x", "mode": "power", "hold_s": 5.0, "really": True},
        frozenset({"drill", "mode", "hold_s"}),
    ),
    "drill-end": (req.DrillRequest, {"drill": "x"}, frozenset({"drill"})),
    "report-save": (req.ReportRequest, {"report": {"id": "x"}}, frozenset({"report"})),
    "alert-test": (req.AlertTestRequest, {"sink": "mail"}, frozenset()),
    "program-events": (
        req.EventsRequest,
        {"events": [{"x": 1}], "lost": 2, "began": True, "stopping": True},
        frozenset({"events"}),
    ),
    "supervisor": (req.SupervisorRequest, {"method": "getState", "params": [1, "x"]}, frozenset({"method"})),
    "program-stop": (req.StopRequest, {"names": ["web"], "keep": True, "file": True}, frozenset({"names"})),
    "program-start": (req.StartRequest, {"names": ["web"], "file": True, "regroup": True}, frozenset({"names"})),
    "names": (req.NamesRequest, {"names": ["web", "db"]}, frozenset({"names"})),
    "program-register": (
        req.RegisterRequest,
        {
            "name": "web",
            "directory": "/srv/web",
            "text": "x",
            "owner": "joe",
            "start": False,
            "update": True,
            "writers": "everybody",
            "user": "ann",
        },
        frozenset({"name", "directory", "text", "owner"}),
    ),
    "program-deregister": (req.DeregisterRequest, {"name": "web", "file": True}, frozenset({"name"})),
    "sync": (req.SyncRequest, {"full": True, "accept_deletes": True, "timeout_s": 3.0}, frozenset()),
    "at-peer": (req.AtPeerRequest, {"ask": {"op": "view"}, "timeout_s": 3.0}, frozenset({"ask"})),
    "transaction": (req.TransactionRequest, {"txn": {"epoch": 1}}, frozenset()),
    "release": (req.ReleaseRequest, {"epoch": 3, "claimed_by": "b"}, frozenset({"epoch", "claimed_by"})),
    "payload-sync": (
        req.PayloadSyncRequest,
        {"timeout_s": 3.0, "below": "/opt/app", "accept_deletes": True, "accept_running": True},
        frozenset(),
    ),
    "payload-offer": (
        req.PayloadOfferRequest,
        {
            "epoch": 3,
            "claimed_by": "b",
            "hash": "x",
            "listing": "y",
            "accept_deletes": True,
            "accept_running": True,
        },
        frozenset({"epoch", "claimed_by", "hash"}),
    ),
    "vote": (
        req.VoteRequest,
        {"holder": "b", "boot": "x", "number": 7, "ttl_s": 3.0, "holds": True},
        frozenset({"holder", "boot", "number", "ttl_s"}),
    ),
    "vote-let-go": (
        req.LetGoRequest,
        {"holder": "b", "boot": "x", "number": 7},
        frozenset({"holder", "boot", "number"}),
    ),
}
"""Each form with a message that fills every field, and the fields that must be there."""

IDS = sorted(FORMS)

HUGE = 10**400
"""JSON has numbers of any size, and Python reads them."""

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text("ab", max_size=3)
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text("ab", max_size=2), SCALARS, max_size=2)
ODD = st.sampled_from([HUGE, -HUGE, math.nan, math.inf, True, [[]], {"a": []}])
FIELDS = [(name, field) for name in IDS for field in sorted(FORMS[name][1])]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value`` has the type that a field says, told from the field's annotation alone."""
    if kind is Any:
        return True
    origin = typing.get_origin(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(one, typing.get_args(kind)[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, dict)
    if origin is not None:
        return any(fits(value, one) for one in typing.get_args(kind))
    if kind is float:
        return type(value) is float and math.isfinite(value)
    return type(value) is kind


def test_every_form_is_tried_here() -> None:
    subclasses = {cls for cls in vars(req).values() if isinstance(cls, type) and issubclass(cls, Request)}
    assert subclasses - {Request, req.SummaryRequest} == {form for form, _, _ in FORMS.values()}
    for form, message, needed in FORMS.values():
        names = {item.name for item in dataclasses.fields(form)}
        assert set(message) == names >= needed


@pytest.mark.parametrize("name", IDS)
def test_a_well_formed_message_is_read_whole_and_what_it_holds_besides_is_ignored(name: str) -> None:
    form, message, _ = FORMS[name]
    found = form.read({**message, "op": name, "id": 7, "unheard-of": object()})
    assert {item.name: plain(getattr(found, item.name)) for item in dataclasses.fields(found)} == message


@pytest.mark.parametrize("name", IDS)
def test_a_field_that_must_be_there_is_missed_by_name_and_any_other_has_a_default(name: str) -> None:
    form, message, needed = FORMS[name]
    for field in message:
        rest = {key: value for key, value in message.items() if key != field}
        if field in needed:
            with pytest.raises(Malformed, match=f"{field} is missing"):
                form.read(rest)
        else:
            form.read(rest)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FIELDS), JSON | ODD)
def test_any_value_of_any_field_is_taken_with_its_type_or_refused_by_name(place: tuple[str, str], value: Any) -> None:
    (name, field), (form, message, _) = place, FORMS[place[0]]
    try:
        found = form.read({**message, field: value})
    except Malformed as error:
        assert str(error).startswith(f"{field} is ") and len(str(error)) < 120
    else:
        assert fits(getattr(found, field), typing.get_type_hints(form)[field]), name


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (req.CountRequest, {"count": True}),
        (req.CountRequest, {"count": 1.0}),
        (req.CountRequest, {"count": None}),
        (req.HandOverRequest, {"force": 1}),
        (req.NamesRequest, {"names": "web"}),
        (req.NamesRequest, {"names": ["web", 1]}),
        (req.NamesRequest, {"names": {"web": 1}}),
        (req.ReportRequest, {"report": []}),
        (req.SyncRequest, {"timeout_s": True}),
        (req.SyncRequest, {"timeout_s": "3"}),
        (req.SyncRequest, {"timeout_s": HUGE}),
        (req.SyncRequest, {"timeout_s": math.nan}),
        (req.MaintenanceRequest, {"on": True, "for_s": math.inf}),
        (req.KeptPruneRequest, {"older_s": "old"}),
    ],
)
def test_a_value_of_another_type_is_refused_and_never_bent(form: type[Request], message: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        form.read(message)


def test_a_whole_number_counts_as_seconds_and_no_age_means_all_of_them() -> None:
    assert type(req.SyncRequest.read({"timeout_s": 3}).timeout_s) is float
    assert req.KeptPruneRequest.read({"older_s": None}).older_s is None
    assert req.KeptPruneRequest.read({"older_s": 5}).older_s == 5.0


def test_signs_of_life_are_the_whole_message() -> None:
    message = {"op": "ping", "version": 1, "what": [None]}
    assert req.SummaryRequest.read(message).summary is message


@pytest.mark.parametrize("number", [2**62 + 1, -(2**62) - 1, 10**400])
def test_a_number_that_counts_nothing_is_malformed(number: int) -> None:
    with pytest.raises(Malformed, match="count is a number of"):
        req.CountRequest.read({"count": number})
