"""The trimmer against a slow and obvious one, which looks at every peer and every address each time."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from wgengine import _native
from wgengine.config import Peer
from wgengine.keys import PrivateKey, PublicKey
from wgengine.peers import Route
from wgengine.trim import Trimmer

KEYS = [PublicKey.from_bytes(bytes([n]) * 32) for n in range(21, 27)]
HOSTS = [f"100.64.0.{n}/32" for n in range(1, 7)] + ["fd7a:115c:a1e0::1/128"]
SUBNETS = ["10.0.0.0/8", "10.1.0.0/16"]
# on both sides of every limit: 10 s, a minute, five minutes
STEPS = [0, 0, 0, 1, 9, 10, 11, 20, 30, 49, 50, 59, 60, 61, 239, 240, 299, 300, 301]

EDGES = [
    "absent → trimmed",
    "absent → live: an address of it was used",
    "absent → live: may not be trimmed",
    "trimmed → live: sent",
    "trimmed → live: received",
    "trimmed → live: an address that was used came to it",
    "trimmed → live: woke by itself",
    "live → live: sent within 10 s, not stored",
    "live → live: sent within a minute, no evaluation",
    "live → live: sent after a minute, evaluation",
    "live → live: received",
    "live → live: another configuration",
    "live → trimmed: by a configuration",
    "live → trimmed: by a packet to a peer",
    "live → trimmed: by a packet from another",
    "live → trimmed: by a sweep",
    "live → trimmed: its address went to another",
    "live → absent",
    "trimmed → absent",
    "tracked → not tracked",
    "not tracked → tracked",
    "refused, and decided again",
    "status due",
    "status not due",
    "received, not tracked",
    "sent, not tracked",
]


class Naive:
    """The rules one after the other: a map of receive times by key, a map of send times by address, a full rescan."""

    def __init__(self, force_full, trim_subnets):
        self.force_full, self.trim_subnets = force_full, trim_subnets
        self.peers, self.live = [], {}  # as the device took them; whether a peer is live
        self.received_at, self.sent_at = {}, {}  # of what is tracked, None where it never happened
        self.polled_at = None

    def may_be_trimmed(self, peer):
        if self.force_full:
            return False
        return self.trim_subnets or all(ip.endswith(("/32", "/128")) for ip in peer.allowed_ips)

    def evaluate(self, peers, now):
        """What it should be, without making it so."""
        live, received_at, sent_at = {}, {}, {}
        for peer in peers:
            key = peer.public_key
            live[key] = True
            if self.may_be_trimmed(peer):
                times = [self.received_at.get(key), *(self.sent_at.get(ip) for ip in peer.allowed_ips)]
                live[key] = any(at is not None and at > now - 300 for at in times)
                received_at[key] = self.received_at.get(key)
                sent_at |= {ip: self.sent_at.get(ip) for ip in peer.allowed_ips}
        return peers, live, received_at, sent_at

    def accept(self, evaluation):
        self.peers, self.live, self.received_at, self.sent_at = evaluation

    def sent(self, address, now):
        """Whether to evaluate."""
        if address not in self.sent_at:
            return None
        before = self.sent_at[address]
        if before is None or now - before >= 10:
            self.sent_at[address] = now
        return before is None or now - before >= 60

    def received(self, key, now):
        """Whether to evaluate, and whether the status is due."""
        if key not in self.received_at:
            return None, False
        self.received_at[key] = now
        due = self.polled_at is None or now - self.polled_at >= 60
        if due:
            self.polled_at = now
        return not self.live[key], due


class Pair:
    """Both, side by side; `device` is what the decisions make of a device."""

    def __init__(self, *, force_full, trim_subnets, edges):
        self.ours = Trimmer(force_full=force_full, trim_subnet_peers=trim_subnets)
        self.naive = Naive(force_full, trim_subnets)
        self.device = {}
        self.now = 3.0  # a clock that began with the machine
        self.edges = edges
        self.refused = False

    def settle(self, decision, peers, cause, refuse=False):
        """Take the decision, or let the device refuse it."""
        naive = self.naive
        evaluation = naive.evaluate(peers, self.now)
        shall = evaluation[1]
        assert dict(decision.trimmed) == {k: not v for k, v in shall.items() if naive.live.get(k) != v}
        assert (decision.live, decision.total) == (sum(shall.values()), len(peers))
        if refuse:
            self.refused = self.refused or bool(decision)
            return
        if decision and self.refused:
            self.edges["refused, and decided again"] += 1
        self.refused = False
        for key, live in naive.live.items():
            self.count(key, live, shall.get(key), naive, evaluation, cause)
        for key in shall.keys() - naive.live.keys():
            appeared = "live: an address of it was used" if key in evaluation[2] else "live: may not be trimmed"
            self.edges[f"absent → {appeared if shall[key] else 'trimmed'}"] += 1
        naive.accept(evaluation)
        self.ours.accept(decision)
        self.tell(decision.trimmed, peers)

    def tell(self, trimmed, peers):
        """Tell the device whom to trim, and who is left."""
        self.device |= {key: not gone for key, gone in trimmed.items()}
        self.device = {peer.public_key: self.device[peer.public_key] for peer in peers}

    def count(self, key, before, after, naive, evaluation, cause):
        tracked, shall_be = key in naive.received_at, key in evaluation[2]
        if after is None:
            self.edges[f"{'live' if before else 'trimmed'} → absent"] += 1
        elif tracked != shall_be:
            self.edges["tracked → not tracked" if tracked else "not tracked → tracked"] += 1
        elif before and after and cause == "a configuration":
            self.edges["live → live: another configuration"] += 1
        elif before and not after:
            # would it be trimmed if it still had its old addresses?
            old = next(peer for peer in naive.peers if peer.public_key == key)
            by_time = not naive.evaluate([old], self.now)[1][key]
            self.edges[f"live → trimmed: {f'by {cause}' if by_time else 'its address went to another'}"] += 1
        elif after and not before and cause == "a configuration":
            self.edges["trimmed → live: an address that was used came to it"] += 1

    def reconfigure(self, peers, refuse):
        self.settle(self.ours.reconfigured(peers, self.now), peers, "a configuration", refuse)

    def send(self, address, refuse):
        naive = self.naive
        owner = next((peer.public_key for peer in naive.peers if address in peer.allowed_ips), None)
        if owner is None:
            return
        was_live, was = naive.live[owner], naive.sent_at.get(address)
        decision = self.ours.sent(Route(address, owner), self.now)
        evaluate = naive.sent(address, self.now)
        if evaluate is None:
            assert not decision
            self.edges["sent, not tracked"] += 1
        elif not evaluate:
            assert not decision
            how = "within a minute, no evaluation" if self.now - was >= 10 else "within 10 s, not stored"
            self.edges[f"live → live: sent {how}"] += was_live
        else:
            self.settle(decision, naive.peers, "a packet to a peer", refuse)
            if naive.live.get(owner):
                how = "live: sent after a minute, evaluation" if was_live else "live: sent"
                self.edges[f"{'live' if was_live else 'trimmed'} → {how}"] += 1

    def receive(self, key, refuse):
        naive = self.naive
        was_live = naive.live.get(key)
        decision = self.ours.received(key, self.now)
        evaluate, due = naive.received(key, self.now)
        assert decision.status_due == due
        if evaluate is None:
            assert not decision
            self.edges["received, not tracked"] += 1
            return
        self.edges[f"status {'due' if due else 'not due'}"] += 1
        if evaluate:
            self.settle(decision, naive.peers, "a packet from another", refuse)
        else:
            assert not decision
        if naive.live[key]:
            self.edges["live → live: received" if was_live else "trimmed → live: received"] += 1

    def wake(self, key):
        naive = self.naive
        if key not in naive.received_at or naive.live[key]:
            return
        decision = self.ours.woke(key, self.now, received=False)
        naive.received_at[key] = self.now
        naive.live[key] = True
        self.tell({key: False}, naive.peers)
        self.edges["trimmed → live: woke by itself"] += 1
        self.settle(decision, naive.peers, "a packet to a peer")

    def sweep(self, refuse):
        self.settle(self.ours.sweep(self.now), self.naive.peers, "a sweep", refuse)

    def turn(self, knob):
        if knob == "force_full":
            self.ours.force_full = self.naive.force_full = not self.naive.force_full
        else:
            self.ours.trim_subnet_peers = self.naive.trim_subnets = not self.naive.trim_subnets

    def check(self):
        """The device has what a rescan of everything gave, and the trimmer knows just that."""
        naive = self.naive
        assert self.device == naive.live
        assert (self.ours.live, self.ours.total) == (sum(naive.live.values()), len(naive.peers))
        for key in KEYS:
            assert self.ours.is_live(key) == naive.live.get(key, False)
            assert self.ours.is_tracked(key) == (key in naive.received_at)
            addresses = next((p.allowed_ips for p in naive.peers if p.public_key == key), ())
            times = [naive.received_at.get(key), *(naive.sent_at.get(ip) for ip in addresses)]
            assert self.ours.last_active(key) == max((at for at in times if at is not None), default=None)
        assert self.ours._sent == {ip: at for ip, at in naive.sent_at.items() if at is not None}
        self.check_next_sweep()

    def check_next_sweep(self):
        naive = self.naive
        due = self.ours.next_sweep(self.now)
        _, shall, _, _ = naive.evaluate(naive.peers, self.now)
        if shall != naive.live:
            return  # something is owed already
        lasts = []
        for peer in naive.peers:
            if naive.live[peer.public_key] and peer.public_key in naive.received_at:
                lasts.append(self.ours.last_active(peer.public_key))
        if lasts and due is not None and not self.refused:
            assert due <= max(min(lasts) + 300, self.now + 60)
        assert (due is None) <= (not lasts)

    def run(self, steps):
        for name, *arguments in steps:
            if name == "time":
                self.now += arguments[0]
            else:
                getattr(self, name)(*arguments)
            self.check()


class RealPair(Pair):
    """The same with a device of ours."""

    def __init__(self, native, **arguments):
        super().__init__(**arguments)
        self.native = native

    def tell(self, trimmed, peers):
        left = {peer.public_key for peer in peers}
        plans = [_native.PeerPlan(key, remove=True) for key in self.device.keys() - left]
        for peer in peers:
            gone = trimmed.get(peer.public_key)
            plans.append(
                _native.PeerPlan(peer.public_key, replace_allowed_ips=True, allowed_ips=peer.allowed_ips, trimmed=gone)
            )
        self.native.commit(_native.Plan(peers=plans))
        self.device = {state.public_key: not state.trimmed for state in self.native.state().peers}


def with_unique_owners(claims):
    """As a configuration keeps it: no key twice, and a prefix with the last who claims it."""
    wanted = dict(claims)
    owners = {ip: key for key, ips in wanted.items() for ip in ips}
    return [Peer(public_key=key, allowed_ips=[ip for ip in ips if owners[ip] == key]) for key, ips in wanted.items()]


seldom = st.sampled_from([False] * 7 + [True])
claims = st.lists(
    st.tuples(st.sampled_from(KEYS), st.lists(st.sampled_from(HOSTS * 2 + SUBNETS), max_size=3)), max_size=6
)
steps = st.one_of(
    st.tuples(st.just("time"), st.sampled_from(STEPS) | st.floats(0, 400, allow_nan=False)),
    st.tuples(st.just("reconfigure"), claims.map(with_unique_owners), seldom),
    st.tuples(st.just("send"), st.sampled_from(HOSTS + SUBNETS), seldom),
    st.tuples(st.just("receive"), st.sampled_from(KEYS), seldom),
    st.tuples(st.just("wake"), st.sampled_from(KEYS)),
    st.tuples(st.just("sweep"), seldom),
    st.tuples(st.just("turn"), st.sampled_from(["force_full", "trim_subnets"])),
)


@settings(deadline=None)
@given(st.booleans(), st.booleans(), st.lists(steps, max_size=40))
def test_property_1_the_device_has_what_a_rescan_of_everything_would_give_it(force_full, trim_subnets, taken):
    Pair(force_full=force_full, trim_subnets=trim_subnets, edges=Counter()).run(taken)


def drawn(rng):
    """Steps as one sees them in the field: much traffic, some time, now and then a new configuration."""
    claims = []
    for _ in range(rng.randint(20, 60)):
        choice = rng.random()
        refuse = rng.random() < 0.1
        if choice < 0.3:
            yield "time", rng.choice(STEPS)
        elif choice < 0.57:
            yield "send", rng.choice(HOSTS + SUBNETS), refuse
        elif choice < 0.75:
            yield "receive", rng.choice(KEYS), refuse
        elif choice < 0.8:
            yield "wake", rng.choice(KEYS)
        elif choice < 0.87:
            yield "sweep", refuse
        elif choice < 0.88:
            yield "turn", rng.choice(["force_full", "trim_subnets"])
        else:
            if claims and rng.random() < 0.8:
                claims = [*claims]
                claims[rng.randrange(len(claims))] = (rng.choice(KEYS), drawn_addresses(rng))
            else:
                claims = [(key, drawn_addresses(rng)) for key in rng.sample(KEYS, rng.randint(0, 6))]
            yield "reconfigure", with_unique_owners(claims), refuse


def drawn_addresses(rng):
    return rng.sample(HOSTS, rng.randint(0, 3)) + ([rng.choice(SUBNETS)] if rng.random() < 0.2 else [])


def test_property_1_a_device_of_ours_has_what_the_decisions_say():
    rng = random.Random("device")
    for _ in range(20):
        native = _native.Device(memory=True, name="trim")
        try:
            native.commit(_native.Plan(private_key=PrivateKey.from_hex("08" * 32)))
            RealPair(native, force_full=False, trim_subnets=True, edges=Counter()).run(drawn(rng))
        finally:
            native.close()


def test_every_edge_of_the_state_machine_is_taken_a_hundred_times(record_property):
    edges = Counter(dict.fromkeys(EDGES, 0))
    rng = random.Random("trim")
    for _ in range(1200):
        Pair(force_full=False, trim_subnets=rng.random() < 0.5, edges=edges).run(drawn(rng))
    for edge in EDGES:
        print(f"{edges[edge]:7,} {edge}")
    fewest = min(edges, key=edges.__getitem__)
    record_property("least often taken", f"{edges[fewest]} × {fewest}")
    assert set(edges) == set(EDGES)
    assert min(edges.values()) >= 100
