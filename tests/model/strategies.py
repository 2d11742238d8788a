"""Configurations of every kind, for Hypothesis: small pools, so that keys and prefixes collide often."""

import ipaddress

from hypothesis import strategies as st
from wgengine.comments import Comment
from wgengine.config import Config, Endpoint, NetworkLogging, Peer
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

SECRETS = [PrivateKey.from_hex(f"{n:02x}" * 32) for n in (0x08, 0x10, 0x18)]
KEYS = [PublicKey.from_bytes(bytes([n]) * 32) for n in range(21, 27)]
PSKS = [PresharedKey.from_hex(f"{n:02x}" * 32) for n in (1, 2)]

secrets = st.sampled_from(SECRETS)
v4 = st.builds(lambda n, p: str(ipaddress.IPv4Interface((n, p))), st.integers(0, 2**32 - 1), st.integers(0, 32))
v6 = st.builds(lambda n, p: str(ipaddress.IPv6Interface((n, p))), st.integers(0, 2**128 - 1), st.integers(0, 128))
few = st.sampled_from(
    ["0.0.0.0/0", "::/0", "10.9.0.0/24", "10.9.0.2/32", "10.9.1.0/24", "10.0.0.0/8", "fd00::/64", "fd00::2/128"]
)
prefixes = st.one_of(few, v4, v6)
own_addresses = st.one_of(
    st.sampled_from(["10.9.0.1/24", "10.9.0.3/24", "10.9.0.1/32", "10.8.0.1/16", "fd00::1/64", "fd00::3/64"]), v4, v6
)

labels = st.from_regex(r"\A[a-z_][a-z0-9_-]{0,8}\Z") | st.sampled_from(["bücher", "xn--bcher-kva", "भारत", "例え"])
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
domains = names.filter(lambda name: "भ" not in name)  # a search domain's labels are letters, digits, _ and -
zoned = st.builds(lambda n, zone: f"{ipaddress.IPv6Address(n)}%{zone}", st.integers(0, 2**128 - 1), labels).filter(
    lambda host: host.isascii()
)
hosts = st.one_of(
    names, zoned, st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n))),
    st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n))),
)  # fmt: skip
endpoints = st.builds(Endpoint, hosts, st.integers(0, 65535))

# anything that a hook may hold: no line ends, no NUL, no comment sign, something besides blanks
hook_text = st.text(st.characters(exclude_characters="#\n\r\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
hooks = st.lists(hook_text.filter(lambda text: text.strip(" \t\v\f")), max_size=3)
comment_text = st.one_of(
    st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=12),
    # nearly what we read as a field
    st.sampled_from([" wgengine: home", "wgengine: =", " wgengine: a b = c", "= x", "# wgengine: Jailed = true"]),
)
log_ids = st.sampled_from(["ab" * 32, "0" * 63 + "1"])
network_logging = st.none() | st.builds(
    NetworkLogging, node_id=log_ids, domain_id=log_ids, log_exit_flows=st.booleans()
)


@st.composite
def peers(draw, key):
    return Peer(
        public_key=key,
        preshared_key=draw(st.none() | st.sampled_from(PSKS)),
        endpoint=draw(st.none() | endpoints),
        allowed_ips=draw(st.lists(prefixes, max_size=5)),
        persistent_keepalive=draw(st.sampled_from([0, 25, 65535])),
        disco_key=draw(st.none() | st.sampled_from(KEYS)),
        v4_masq_addr=draw(st.sampled_from([None, "100.64.0.9"])),
        v6_masq_addr=draw(st.sampled_from([None, "fd00::9"])),
        jailed=draw(st.booleans()),
    )


@st.composite
def comments(draw, keys):
    key = draw(
        st.sampled_from(["", "PrivateKey", "MTU", "Address", "PostUp", "AllowedIPs", "DiscoKey", "Jailed", "DNS"])
    )
    return Comment(
        text=draw(comment_text),
        peer=draw(st.none() | st.sampled_from(keys)),
        key=key,
        values=tuple(draw(st.lists(prefixes, max_size=3))) if key in ("Address", "AllowedIPs") else (),
        where=draw(st.sampled_from(["above", "beside", "end"])),
    )


@st.composite
def configs(draw):
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=4))
    return Config(
        private_key=draw(secrets),
        listen_port=draw(st.sampled_from([0, 1, 51820, 65535])),
        fwmark=draw(st.sampled_from([0, 1, 0x64, 0xFFFFFFFF])),
        addresses=draw(st.lists(own_addresses, max_size=4)),
        mtu=draw(st.none() | st.integers(576, 65535)),
        dns=draw(st.lists(own_addresses.map(lambda text: text.split("/")[0]), max_size=3)),
        dns_search=draw(st.lists(domains, max_size=3)),
        table=draw(st.sampled_from(["auto", "auto", "off", 1234, 254, 1, 0xFFFFFFFF])),
        pre_up=draw(hooks),
        post_up=draw(hooks),
        pre_down=draw(hooks),
        post_down=draw(hooks),
        save_config=draw(st.booleans()),
        network_logging=draw(network_logging),
        peers=[draw(peers(key)) for key in keys],
        comments=draw(st.lists(comments(KEYS), max_size=5)),
    )
