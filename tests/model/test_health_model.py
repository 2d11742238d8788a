"""The tracker against a table that is judged afresh, what is told against what is shown, and who has troubles."""

from hypothesis import given
from hypothesis import strategies as st
from wgengine.events import HandshakeFailed, SessionUp
from wgengine.health import Severity, Tracker, Warnable
from wgengine.health.peers import PeerTroubles
from wgengine.keys import PublicKey

A = Warnable(code="a", title="", text="{x}", time_to_visible=5.0, severity=Severity.HIGH)
B = Warnable(code="b", title="", text="{x}", depends_on=(A,))
C = Warnable(code="c", title="", text="{x}", depends_on=(B,), time_to_visible=2.0, severity=Severity.LOW)
D = Warnable(code="d", title="", text="{x}", depends_on=(A, C))
ALL = (A, B, C, D)

steps = st.lists(
    st.tuples(st.sampled_from(ALL), st.sampled_from([None, "x", "y"]), st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0])),
    max_size=40,
)


def shown(broken, now):
    """Slow and obvious: {code: (since, words)} → what is to be seen."""

    def in_effect(w):
        return w.code in broken and not any(in_effect(needed) for needed in w.depends_on)

    return {w.code: broken[w.code][1] for w in ALL if in_effect(w) and broken[w.code][0] + w.time_to_visible <= now}


@given(steps)
def test_told_and_shown_are_what_the_table_says(walk):
    tracker, now, broken, told = Tracker(ALL), 0.0, {}, {}
    for warnable, words, pause in walk:
        if words is None:
            tracker.set_healthy(warnable)
            broken.pop(warnable.code, None)
        else:
            tracker.set_unhealthy(warnable, now, x=words)
            since = broken[warnable.code][0] if warnable.code in broken else now
            broken[warnable.code] = (since, words)
        until = now + pause
        while True:
            for change in tracker.poll(now):
                if change.state is None:
                    del told[change.warnable.code]  # nothing is taken back that was not told
                else:
                    assert told.get(change.warnable.code) != change.state.text, "said twice"
                    told[change.warnable.code] = change.state.text
            assert told == shown(broken, now) == {code: s.text for code, s in tracker.current(now).items()}
            due = tracker.due()
            if due is None or due > until:
                break
            now = due  # between two dues time alone changes nothing
        assert shown(broken, until) == told
        now = until


PEERS = [PublicKey.from_bytes(bytes([number]) * 32) for number in range(6)]
NAMES = {peer: f"p{number}" for number, peer in enumerate(PEERS)}
failures = st.lists(
    st.tuples(
        st.sampled_from(["fails", "fails", "answers", "is removed"]),
        st.sampled_from(PEERS),
        st.sampled_from([0.0, 1.0, 60.0, 179.0, 180.0]),
    ),
    max_size=40,
)


@given(failures)
def test_who_does_not_answer_is_who_failed_last_of_late(walk):
    limit, now = 4, 1000.0
    troubles, tracker = PeerTroubles(NAMES.__getitem__, limit=limit), Tracker()
    silent = {}  # peer → when its first and its latest attempt failed, the latest at the end
    for what, peer, pause in walk:
        first, _ = silent.pop(peer, (now, now))
        match what:
            case "fails":
                if len(silent) < limit:
                    silent[peer] = (first, now)
                troubles.feed(HandshakeFailed(time=0, peer=peer), now)
            case "answers":
                troubles.feed(SessionUp(time=0, peer=peer, initiator=True), now)
            case "is removed":
                troubles.forget([peer])
        now += pause
        silent = {peer: (first, last) for peer, (first, last) in silent.items() if now - last < 180.0}
        troubles.judge(tracker, now)
        assert troubles.due() == min((last + 180.0 for _, last in silent.values()), default=None)
        peers = ", ".join(NAMES[peer] for peer in sorted(silent, key=lambda peer: silent[peer][0]))
        assert [state.args["peers"] for state in tracker.current(now).values()] == ([peers] if silent else [])
