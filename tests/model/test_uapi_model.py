"""UAPI requests of any lines, to a device in memory (C7 I-13): taken whole, or refused and nothing has changed; and
what a device tells of itself makes it the same again."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wgengine._native import Device

# one device serves all examples: each begins by taking everything away
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=200
)

KEYS = [f"{n:02x}" * 32 for n in (9, 0x2A, 0xB7)]
OWN = "c8" + "11" * 30 + "51"
keys = st.sampled_from(KEYS).flatmap(lambda key: st.sampled_from([key, key.upper()]))
prefixes = st.sampled_from(["10.0.0.0/8", "10.0.0.9/32", "::/0", "fd00::/8", "0.0.0.0/0", "1.2.3.4/24"])
endpoints = st.sampled_from(["127.0.0.1:9", "[::1]:65535", "[::1%1]:9"])  # nothing leaves this machine
numbers = st.integers(0, 65535).map(str)

device_lines = st.one_of(
    st.just(f"private_key={OWN}"),
    st.just("listen_port=0"),
    st.just("replace_peers=true"),
)
peer_lines = st.one_of(
    keys.map("preshared_key={}".format),
    endpoints.map("endpoint={}".format),
    numbers.map("persistent_keepalive_interval={}".format),
    st.just("replace_allowed_ips=true"),
    prefixes.map("allowed_ip={}".format),
    prefixes.map("allowed_ip=-{}".format),
    prefixes.map("allowed_ip=+{}".format),
    st.just("protocol_version=1"),
    st.sampled_from(["update_only=true", "remove=true"]),
)
peer_blocks = st.builds(lambda key, lines: [f"public_key={key}", *lines], keys, st.lists(peer_lines, max_size=6))
good = st.builds(
    lambda device, peers: [*device, *(line for block in peers for line in block)],
    st.lists(device_lines, max_size=3),
    st.lists(peer_blocks, max_size=4),
)
# each is wrong wherever it stands
bad = st.sampled_from(
    [
        "nonsense",
        "a=b",
        "public_key=00",
        f"public_key={'g' * 64}",
        "endpoint=vpn.example:5",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0",
        "listen_port=65536",
        "persistent_keepalive_interval=off",
        "remove=yes",
        "protocol_version=2",
        "fwmark=0x100000000",
        "\0=\0",
        "=",
        "replace_peers=false",
        f"private_key={'1' * 10_000}",
        "é=1",
    ]
)


@pytest.fixture(scope="module")
def device():
    with_memory = Device(memory=True)
    yield with_memory
    with_memory.close()


def ask(device, lines):
    return device.uapi("\n".join(["set=1", *lines, "", ""]))


def told(device):
    """What the device says, but for its port, which the kernel chose."""
    lines = device.uapi("get=1\n\n").removesuffix("errno=0\n\n").splitlines()
    return [line for line in lines if not line.startswith("listen_port=")]


def cleared(device):
    assert ask(device, [f"private_key={'0' * 64}", "replace_peers=true"]) == "errno=0\n\n"
    assert told(device) == []


@relaxed
@given(requests=st.lists(good, min_size=1, max_size=3))
def test_i13_what_a_device_tells_makes_it_the_same_again(device, requests):
    cleared(device)
    for lines in requests:
        assert ask(device, lines) == "errno=0\n\n"
    before = told(device)
    # what is told only
    settable = [line for line in before if not line.startswith(("last_handshake_time", "tx_bytes", "rx_bytes"))]
    cleared(device)
    assert ask(device, settable) == "errno=0\n\n"
    after = told(device)
    # an attempt to reach a peer that keeps itself alive may have begun: its bytes are counted
    assert [line for line in after if not line.startswith("tx_bytes")] == [
        line for line in before if not line.startswith("tx_bytes")
    ]


@relaxed
@given(before=good, lines=good, wrong=bad, data=st.data())
def test_i13_one_wrong_line_and_nothing_has_changed(device, before, lines, wrong, data):
    cleared(device)
    assert ask(device, before) == "errno=0\n\n"
    was = [line for line in told(device) if not line.startswith("tx_bytes")]
    lines.insert(data.draw(st.integers(0, len(lines))), wrong)
    answer = ask(device, lines)
    assert answer.startswith("errno=-")
    assert answer.endswith("\n\n")
    assert [line for line in told(device) if not line.startswith("tx_bytes")] == was


@relaxed
@given(text=st.lists(st.sampled_from(["set=1", "get=1", "", f"public_key={KEYS[0]}", "fwmark=", "\r"]) | st.text()))
def test_i13_any_text_is_answered(device, text):
    answer = device.uapi("\n".join(text))
    last = answer.removesuffix("\n\n").splitlines()[-1]
    assert last.startswith("errno=")
    assert int(last.removeprefix("errno=")) <= 0
    assert all("=" in line for line in answer.removesuffix("\n\n").splitlines())
