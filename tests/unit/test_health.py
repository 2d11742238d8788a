"""Health: what is tracked, shown, masked and told, by a clock that the tests turn."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from wgengine.health import WARNABLES, Facts, Severity, Tracker, Warnable, rules
from wgengine.health import warnable as w

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "health.md"
SLOW = Warnable(code="slow", title="Slow", text="slow: {error}", time_to_visible=10.0, debug_flag="warn-slow")
QUICK = Warnable(code="quick", title="Quick", text="quick: {error}", severity=Severity.LOW)
NET = Warnable(code="net", title="Net", text="no net", severity=Severity.HIGH, time_to_visible=5.0)
SOCKET = Warnable(code="socket", title="Socket", text="no socket", depends_on=(NET,))
RELAY = Warnable(code="relay", title="Relay", text="no relay", depends_on=(SOCKET,))


@pytest.fixture
def tracker():
    return Tracker((SLOW, QUICK, NET, SOCKET, RELAY), unix_offset=1e9)


def told(tracker, now):
    return [(c.warnable.code, c.state.text if c.state else None) for c in tracker.poll(now)]


def test_what_is_wrong_is_told_once_and_so_is_its_end(tracker):
    tracker.set_unhealthy(QUICK, 1.0, error="a")
    assert told(tracker, 1.0) == [("quick", "quick: a")]
    tracker.set_unhealthy(QUICK, 2.0, error="a")
    assert told(tracker, 2.0) == []
    assert tracker.current(2.0)["quick"].broken_since == 1e9 + 1.0
    tracker.set_healthy(QUICK)
    tracker.set_healthy(QUICK)
    assert told(tracker, 3.0) == [("quick", None)]
    assert list(tracker) == []


def test_other_words_are_told_and_the_first_time_stays(tracker):
    tracker.set_unhealthy(QUICK, 1.0, error="a")
    tracker.poll(1.0)
    tracker.set_unhealthy(QUICK, 2.0, error="b")
    (change,) = tracker.poll(2.0)
    assert (change.state.text, change.state.broken_since) == ("quick: b", 1e9 + 1.0)


def test_what_does_not_last_is_not_told(tracker):
    tracker.set_unhealthy(SLOW, 0.0, error="a")
    assert (told(tracker, 9.9), tracker.due()) == ([], 10.0)
    tracker.set_healthy(SLOW)
    assert (told(tracker, 20.0), tracker.due()) == ([], None)


def test_what_lasts_is_told_when_it_has_lasted(tracker):
    tracker.set_unhealthy(SLOW, 0.0, error="a")
    assert told(tracker, tracker.due()) == [("slow", "slow: a")]
    assert tracker.due() is None
    assert tracker.strings(10.0) == ["slow: a"]
    tracker.set_healthy(SLOW)
    assert told(tracker, 11.0) == [("slow", None)]


def test_since_may_lie_in_the_past_but_not_ahead(tracker):
    tracker.report(SLOW, 100.0, {"error": "a"}, since=89.0)
    assert told(tracker, 100.0) == [("slow", "slow: a")]
    tracker.report(QUICK, 100.0, {"error": "b"}, since=200.0)
    assert tracker.current(100.0)["quick"].broken_since == 1e9 + 100.0


def test_d64_other_words_while_it_waits_give_one_event_with_the_newest(tracker):
    tracker.set_unhealthy(SLOW, 0.0, error="first")
    tracker.poll(0.0)
    tracker.set_unhealthy(SLOW, 4.0, error="second")
    assert (told(tracker, 4.0), tracker.due()) == ([], 10.0)
    assert told(tracker, 10.0) == [("slow", "slow: second")]
    assert (told(tracker, 14.0), tracker.due()) == ([], None)


def test_d65_what_comes_and_goes_for_ever_leaves_nothing(tracker):
    for moment in range(1000):
        tracker.set_unhealthy(QUICK, float(moment), error="a")
        tracker.poll(float(moment))
        tracker.set_healthy(QUICK)
        tracker.poll(float(moment))
    assert (len(tracker._broken), len(tracker._told), len(tracker.warnables)) == (0, 0, 5)


def test_d66_every_rule_is_judged_whatever_another_says():
    facts = Facts(wanted=False, any_interface_up=False, router_error="busy", dns_error="refused", udp4_error="in use")
    tracker = Tracker()
    rules.judge(tracker, facts, 0.0)
    everything = {"wantrunning-false", "network-status", "router", "dns", "no-udp4-bind"}
    assert {found.code for found in tracker} == everything
    # what is a consequence is hidden, not forgotten
    assert set(tracker.current(0.0)) == {"wantrunning-false", "router", "dns"}
    rules.judge(tracker, Facts(wanted=False, any_interface_up=False, udp4_error="in use"), 1.0)
    assert {found.code for found in tracker} == everything - {"router", "dns"}


def test_d67_who_stops_an_engine_as_it_starts_does_not_leave_it_starting():
    tracker = Tracker()
    rules.judge(tracker, Facts(started=100.0), 100.0)
    assert set(tracker.current(100.0)) == {"warming-up"}
    rules.judge(tracker, Facts(started=100.0, wanted=False), 101.0)
    assert set(tracker.current(101.0)) == {"wantrunning-false"}


def test_warming_up_ends_with_the_first_configuration_or_after_five_seconds():
    tracker = Tracker()
    for facts, now, warming in [
        (Facts(), 100.0, False),
        (Facts(started=100.0), 100.0, True),
        (Facts(started=100.0), 104.9, True),
        (Facts(started=100.0, running=True), 101.0, False),
        (Facts(started=100.0), 105.0, False),
    ]:
        rules.judge(tracker, facts, now)
        assert tracker.is_unhealthy(w.WARMING_UP) is warming, (facts, now)
    assert rules.due(Facts(started=100.0), 101.0) == 105.0
    assert rules.due(Facts(started=100.0), 105.0) is None
    for never in (Facts(), Facts(started=100.0, running=True), Facts(started=100.0, wanted=False)):
        assert rules.due(never, 101.0) is None


def test_a_consequence_is_hidden_while_its_cause_lasts(tracker):
    tracker.set_unhealthy(SOCKET, 0.0)
    assert told(tracker, 0.0) == [("socket", "no socket")]
    tracker.set_unhealthy(NET, 1.0)  # hides at once, shows itself after its time
    assert told(tracker, 1.0) == [("socket", None)]
    assert told(tracker, 6.0) == [("net", "no net")]
    tracker.set_healthy(NET)
    assert told(tracker, 7.0) == [("net", None), ("socket", "no socket")]


def test_only_what_is_not_itself_a_consequence_hides_others(tracker):
    tracker.set_unhealthy(SOCKET, 0.0)
    tracker.set_unhealthy(RELAY, 0.0)
    assert set(tracker.current(0.0)) == {"socket"}
    tracker.set_unhealthy(NET, 0.0)
    assert set(tracker.current(5.0)) == {"net", "relay"}


def test_what_is_hidden_lasts_nevertheless(tracker):
    tracker.set_unhealthy(SOCKET, 0.0)
    tracker.set_unhealthy(NET, 0.0)
    assert tracker.lasting(1.0) == ["socket"]
    assert tracker.lasting(5.0) == ["net", "socket"]
    assert tracker.lasting(5.0, ["relay", "net"]) == ["net"]
    with pytest.raises(ValueError, match="nonsense"):
        tracker.lasting(5.0, ["net", "nonsense"])


def test_the_worst_comes_first_then_by_code(tracker):
    tracker.set_unhealthy(QUICK, 0.0, error="x")
    tracker.set_unhealthy(SLOW, 0.0, error="x")
    tracker.set_unhealthy(NET, 0.0)
    assert tracker.strings(10.0) == ["no net", "slow: x", "quick: x"]
    assert str(tracker.overall_error(10.0)) == "no net slow: x quick: x"
    assert tracker.debug_flags() == ["warn-slow"]


def test_nothing_wrong_is_no_error(tracker):
    assert (tracker.strings(0.0), tracker.overall_error(0.0), tracker.debug_flags()) == ([], None, [])


def test_a_code_stands_for_one_thing(tracker):
    with pytest.raises(ValueError, match="slow is registered already"):
        tracker.register(Warnable(code="slow", title="", text=""))
    stranger = Warnable(code="stranger", title="", text="")
    for use in (
        lambda: tracker.set_unhealthy(stranger, 0.0),
        lambda: tracker.set_healthy(stranger),
        lambda: tracker.is_unhealthy(stranger),
        lambda: tracker.register(Warnable(code="new", title="", text="", depends_on=(stranger,))),
    ):
        with pytest.raises(ValueError, match="stranger is not registered"):
            use()


@pytest.mark.parametrize("args", [{}, {"errors": "x"}, {"error": "x", "more": "y"}])
def test_arguments_are_those_of_the_text(tracker, args):
    with pytest.raises(ValueError, match="quick wants"):
        tracker.set_unhealthy(QUICK, 0.0, **args)
    assert list(tracker) == []


def test_braces_in_an_argument_are_just_text(tracker):
    tracker.set_unhealthy(QUICK, 0.0, error="{error} {0} {")
    assert tracker.strings(0.0) == ["quick: {error} {0} {"]


def test_a_snapshot_has_the_names_that_front_ends_know():
    tracker = Tracker(unix_offset=1_700_000_000.0)
    tracker.set_unhealthy(w.NO_UDP4_BIND, 0.5, error="in use")
    plain = tracker.current(1.0)["no-udp4-bind"].as_dict()
    etag = plain.pop("ETag")
    assert plain == {
        "WarnableCode": "no-udp4-bind",
        "Severity": "medium",
        "Title": "No IPv4 socket",
        "Text": w.NO_UDP4_BIND.describe({"error": "in use"}),
        "BrokenSince": "2023-11-14T22:13:20.500000Z",
        "Args": {"error": "in use"},
        "DependsOn": ["network-status", "wantrunning-false", "warming-up"],
        "ImpactsConnectivity": True,
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert etag == hashlib.sha256(text.encode()).hexdigest()


def test_argument_names_have_hyphens_in_json():
    odd = Warnable(code="odd", title="", text="{server_name}")
    tracker = Tracker((odd,))
    tracker.set_unhealthy(odd, 0.0, server_name="a")
    assert tracker.current(0.0)["odd"].as_dict()["Args"] == {"server-name": "a"}


def test_the_etag_tells_every_difference():
    def etag(at=0.0, offset=0.0, error="a", **changed):
        base = {"code": "c", "title": "t", "text": "{error}"}
        warnable = Warnable(**(base | changed))
        tracker = Tracker((w.NETWORK_STATUS, warnable), unix_offset=offset)
        tracker.set_unhealthy(warnable, at, error=error)
        return tracker.current(1.0)[warnable.code].as_dict()["ETag"]

    tags = [
        etag(),
        etag(at=1.0),
        etag(offset=1.5),
        etag(error="b"),
        etag(code="d"),
        etag(title="u"),
        etag(text="{error}!"),
        etag(severity=Severity.HIGH),
        etag(impacts_connectivity=True),
        etag(depends_on=(w.NETWORK_STATUS,)),
    ]
    assert len(set(tags)) == len(tags)
    assert etag() == etag()


def test_every_warnable_can_be_told():
    codes = [warnable.code for warnable in WARNABLES]
    assert len(set(codes)) == len(codes)
    named = {value for value in vars(w).values() if isinstance(value, Warnable)}
    assert named == set(WARNABLES)
    for warnable in WARNABLES:
        text = warnable.describe(dict.fromkeys(warnable.arguments, "X"))
        assert text == "X" or text[-1] == ".", warnable.code
        assert "{" not in text
        assert set(warnable.depends_on) <= set(WARNABLES)


def test_a_text_with_a_brace_field_has_no_other():
    for warnable in WARNABLES:
        assert re.sub(r"\{\w+\}", "", warnable.text).count("{") == 0


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        ({"any_interface_up": False}, "network-status", "No network interface"),
        ({"wanted": False}, "wantrunning-false", "told to be down"),
        ({"failure": "panic"}, "engine-failed", "panic"),
        ({"udp4_error": "in use"}, "no-udp4-bind", "in use"),
        ({"router_error": "busy"}, "router", "busy"),
        ({"dns_error": "refused"}, "dns", "refused"),
        ({"state_error": "disk full"}, "state-store-health", "disk full"),
        ({"filter_error": "line 3"}, "invalid-packet-filter", "line 3"),
        ({"tun_error": "denied"}, "tun-permission", "denied"),
        ({"damage": ("set down",)}, "own-interface-damaged", "set down"),
        ({"forwarding_off": ("net.ipv4.ip_forward",)}, "ip-forwarding-off", "net.ipv4.ip_forward"),
        ({"small_buffers": ("receive 1 of 2",)}, "buffer-too-small", "receive 1 of 2"),
        ({"route_conflicts": tuple("abcdefg")}, "route-conflict", ": a, b, c, d, e and 2 more."),
        ({"address_conflicts": ("10.0.0.1 on eth0",)}, "address-conflict", "10.0.0.1 on eth0"),
        ({"fake_error": "only a test"}, "test-warnable", "only a test"),
    ],
)
def test_each_fact_has_its_warning_and_takes_it_back(facts, code, words):
    tracker = Tracker()
    rules.judge(tracker, Facts(**facts), 0.0)
    assert [found.code for found in tracker] == [code]
    assert words in tracker.current(10.0)[code].text
    rules.judge(tracker, Facts(any_interface_up=True), 0.0)
    assert list(tracker) == []


def test_the_document_has_every_warnable():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert rows == {warnable.code: str(warnable.severity) for warnable in WARNABLES}
