"""`wgengine bench`: how figures are read, compared and said; and that nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from wgengine.bench import (
    compare,
    generator,
    host,
    implementation,
    netmap_end,
    report,
    rows,
    run,
    scale,
    testbed,
    traffic,
)
from wgengine.bench.compare import Measured
from wgengine.bench.host import Counters, HostError
from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import BASELINE, OURS, Step
from wgengine.cli.bench import bench
from wgengine.errors import PrivilegeError
from wgengine.netmap import NetMap

root = pytest.mark.skipif(
    "CI" not in os.environ and (sys.platform != "linux" or os.geteuid() != 0 or bool(host.missing_programs())),
    reason="needs root on Linux with iproute2, ethtool, iperf3, ping and wg",
)


def measured(number: int, name: str, **values: float) -> Measured:
    return Measured(round=number, implementation=name, values=values)


# --- rows


def test_names_are_those_that_readers_of_bench_json_know():
    throughput = {"tcp1", "tcp1_reverse", "tcp4", "udp_2g_goodput"}
    expected = throughput | {f"{name}_noseg" for name in throughput}
    expected |= {"ping_idle_p50", "ping_idle_p99", "cpu_s_per_gb", "rss_under_load"}
    assert expected <= {row.name for row in rows.ROWS}


def test_rows_without_segmentation_stand_first():
    segmented = [row.segmentation for row in rows.ROWS]
    assert segmented == sorted(segmented)


def test_select_keeps_the_order_of_the_table_and_refuses_unknown_names():
    assert [row.name for row in rows.select(["ping_idle_p50", "tcp1", "tcp1_noseg"])] == [
        "tcp1_noseg",
        "tcp1",
        "ping_idle_p50",
    ]
    with pytest.raises(ValueError, match=r"no row is named tcp9; rows are: .*tcp4"):
        rows.select(["tcp1", "tcp9"])


def test_only_loads_that_rows_need_are_put_on_and_pings_come_before_any():
    chosen = rows.select(["cpu_s_per_gb", "rss_under_load", "ping_idle_p99", "udp_2g_goodput_noseg"])
    assert rows.steps_of(chosen, segmentation=True) == (Step.PING, Step.TCP1)
    assert rows.steps_of(chosen, segmentation=False) == (Step.UDP_2G,)


def test_ratio_is_the_median_of_the_rounds_own_ratios():
    # The machine halves its speed in the second round: the ratio of the medians would be 4/2.
    results = [
        *(measured(n, OURS, tcp1=v) for n, v in enumerate([6.0, 3.0, 4.0])),
        *(measured(n, BASELINE, tcp1=v) for n, v in enumerate([4.0, 2.0, 2.0])),
    ]
    (summary,) = compare.summarise(rows.select(["tcp1"]), results, [BASELINE])
    assert (summary.ours, summary.baseline.peer, summary.baseline.ratio) == (4.0, 2.0, 1.5)
    assert summary.met is True


def test_a_round_that_one_side_lost_gives_no_ratio():
    results = [
        measured(0, OURS, tcp1=1.0),
        measured(0, BASELINE, tcp1=2.0),
        measured(1, OURS),
        measured(1, BASELINE, tcp1=2.0),
        measured(2, OURS, tcp1=9.0),
    ]
    (summary,) = compare.summarise(rows.select(["tcp1"]), results, [BASELINE])
    assert summary.baseline.ratio == 0.5
    assert summary.met is False
    assert summary.rounds == {OURS: [1.0, None, 9.0], BASELINE: [2.0, 2.0, None]}


def test_a_peer_that_measured_zero_gives_no_ratio():
    results = [measured(0, OURS, udp_2g_tunnel_loss=3.0), measured(0, BASELINE, udp_2g_tunnel_loss=0.0)]
    (summary,) = compare.summarise(rows.select(["udp_2g_tunnel_loss"]), results, [BASELINE])
    assert (summary.baseline.peer, summary.baseline.ratio, summary.met) == (0.0, None, None)


@pytest.mark.parametrize(("name", "good", "bad"), [("tcp1", 1.5, 1.49), ("ping_idle_p50", 0.5, 0.51)])
def test_targets_are_floors_or_ceilings(name, good, bad):
    (row,) = rows.select([name])
    assert row.meets(good) is True
    assert row.meets(bad) is False


def test_bench_json_has_one_object_per_row_with_nulls_where_there_is_no_peer():
    chosen = rows.select(["tcp1", "rss_under_load"])
    results = [
        measured(0, OURS, tcp1=6.0, rss_under_load=30.0),
        measured(0, BASELINE, tcp1=4.0, rss_under_load=260.0),
        measured(0, "wireguard-go", tcp1=3.0, rss_under_load=250.0),
    ]
    tcp1, rss = json.loads(report.to_json(compare.summarise(chosen, results, [BASELINE, "wireguard-go"])))
    assert {key: tcp1[key] for key in ("name", "unit", "ours", "peer", "against", "ratio", "target")} == {
        "name": "tcp1",
        "unit": "Gbit/s",
        "ours": 6.0,
        "peer": 4.0,
        "against": BASELINE,
        "ratio": 1.5,
        "target": 1.5,
    }
    assert tcp1["others"] == {"wireguard-go": {"peer": 3.0, "ratio": 2.0}}
    assert (rss["ours"], rss["peer"], rss["against"], rss["ratio"], rss["target"]) == (30.0, None, None, None, 64.0)
    assert rss["rounds"][BASELINE] == [260.0]
    assert rss["others"] == {}


def test_without_the_baseline_peer_and_ratio_are_null():
    (summary,) = compare.summarise(rows.select(["tcp1"]), [measured(0, OURS, tcp1=6.0)], [])
    assert summary.to_json()["peer"] is None
    assert summary.to_json()["ratio"] is None
    assert summary.met is None


def test_the_interval_of_a_median_is_that_of_order_statistics():
    assert compare.interval_of_median([3.0, 1.0, 2.0, 5.0, 4.0]) is None, "five values say nothing at 95 %"
    assert compare.interval_of_median([6.0, 1.0, 2.0, 5.0, 4.0, 3.0]) == (1.0, 6.0)
    # Of eleven, the second lowest and highest: 97.9 % (the third ones: 93.5 %).
    assert compare.interval_of_median([float(n) for n in range(11)]) == (1.0, 9.0)


def test_the_netmap_of_the_rows_is_one():
    made = NetMap.from_json(netmap_end.document(1_000))
    assert len(made.peers) == 1_000
    assert len({address for node in made.peers for address in node.addresses}) == 2_000
    assert made.self_node is not None


def test_the_worst_flood_is_the_one_with_the_lowest_median():
    row = next(row for row in rows.ROWS if row.name == "flood_legit_share")
    lowest, *others = row.worst_of
    found = [
        compare.Measured(round=n, implementation="wgengine", values=dict.fromkeys(others, other) | {lowest: low})
        for n, (low, other) in enumerate([(0.92, 0.95), (0.93, 0.80), (0.91, 0.96)])
    ]
    (summary,) = compare.summarise([row], found, [])
    assert summary.ours == 0.92, "not the unluckiest of each round, which is 0.91"
    assert not compare.summarise([row], [], [])[0].rounds["wgengine"], "nothing was measured"
    assert {r.name for r in rows.select(["flood_legit_share"])} == {row.name, *row.worst_of}, "each is measured for it"


def test_the_interval_is_of_the_figure_that_the_target_is_for():
    results = [
        *(measured(n, OURS, tcp1=2.0 + n, reconfig_tcp_ratio=0.9 + n / 100) for n in range(6)),
        *(measured(n, BASELINE, tcp1=2.0) for n in range(6)),
    ]
    tcp1, alone = compare.summarise(rows.select(["tcp1", "reconfig_tcp_ratio"]), results, [BASELINE])
    assert tcp1.interval == (1.0, 3.5)
    assert alone.interval == pytest.approx((0.9, 0.95))
    assert tcp1.to_json()["interval"] == (1.0, 3.5)


def test_peers_are_spared_what_is_measured_of_ours_only():
    chosen = rows.select(["flood_legit_share", "peers_10k_load_s"])
    assert rows.steps_of(chosen, segmentation=True) == (Step.PEERS, Step.FLOODS)
    assert rows.steps_of(chosen, segmentation=True, ours=False) == (Step.PEERS,)


def test_ten_thousand_peers_have_keys_and_addresses_of_their_own():
    lines = [scale.peer_lines(number) for number in range(scale.PEERS)]
    for part in (0, 2):
        assert len({line[part] for line in lines}) == scale.PEERS
    _, _, allowed = lines[9_999]
    assert allowed == "allowed_ip=10.0.39.15/32"


def test_a_peer_that_cannot_be_changed_is_removed_and_added_again():
    able = Implementation(name="a", command=(), version="")
    unable = Implementation(name="b", command=(), version="", changes_peers=False)
    mine, theirs = next(scale.changes(able)), next(scale.changes(unable))
    assert "remove=true" not in mine
    name = mine.splitlines()[1]
    assert theirs == mine.replace("set=1\n", f"set=1\n{name}\nremove=true\n")


# --- run


PING = "64 bytes from 10.9.0.2: icmp_seq={n} ttl=64 time={time} ms\n"


def test_ping_percentiles_are_those_of_the_answered_pings():
    lines = "".join(PING.format(n=n, time=f"{n / 1000:.3f}") for n in range(1, 1001))
    found = traffic.ping_rows(lines)
    assert found["ping_idle_p50"] == pytest.approx(0.5005)
    assert found["ping_idle_p99"] == pytest.approx(0.99001)


def test_too_few_answered_pings_are_no_figure():
    with pytest.raises(HostError, match="900 of 1000 pings were answered"):
        traffic.ping_rows("".join(PING.format(n=n, time="0.1") for n in range(900)))


def iperf(received: int, **sent: int) -> str:
    end = {"sum_sent": {"bytes": 9_000_000_000, **sent}, "sum_received": {"bytes": received, "bits_per_second": 8e9}}
    return json.dumps({"end": end})


def test_throughput_is_what_the_receiver_counted():
    assert traffic.received(iperf(3_000_000_000, retransmits=6)) == {
        "bytes": 3e9,
        "gbit_s": 8.0,
        "retransmits": 6.0,
    }


@pytest.mark.parametrize(
    ("said", "complaint"),
    [(iperf(0), "not one byte"), ('{"end": {}, "error": "control socket has closed"}', "control socket has closed")],
)
def test_an_iperf_that_failed_is_no_figure(said, complaint):
    with pytest.raises(HostError, match=complaint):
        traffic.received(said)


def counters(**values: int) -> Counters:
    zero = dict.fromkeys(("rx_bytes", "rx_packets", "tx_bytes", "tx_packets", "tx_dropped"), 0)
    return Counters(**{**zero, **values})


@pytest.mark.parametrize("run_length", [1, 2, 10, 45])
def test_tunnel_loss_does_not_depend_on_coalescing(run_length):
    """900 of 1,000 datagrams come out, as super-packets of some length; 60 of the lost were never read."""
    sent = counters(tx_packets=940, tx_bytes=940 * 1328, tx_dropped=60)
    supers = 900 // run_length
    written = counters(rx_packets=supers, rx_bytes=supers * (28 + run_length * 1300))
    assert traffic.tunnel_loss(sent, written) == pytest.approx(10.0)


def test_tunnel_loss_is_zero_when_nothing_is_lost_or_sent():
    whole = counters(tx_packets=10, tx_bytes=10 * 1328)
    assert traffic.tunnel_loss(whole, counters(rx_packets=1, rx_bytes=28 + 13000)) == 0.0
    assert traffic.tunnel_loss(counters(), counters()) == 0.0


def test_rounds_are_interleaved_and_every_second_one_goes_backwards(monkeypatch):
    seen = []
    monkeypatch.setattr(run, "measure", lambda rows, i, *, number, **_: seen.append((number, i.name)))
    three = [Implementation(name=name, command=(), version="") for name in "abc"]
    list(run.rounds(rows.ROWS, three, count=3, seconds=1, tell=print))
    assert ["".join(name for n, name in seen if n == number) for number in range(3)] == ["abc", "cba", "abc"]


# --- testbed

PROC_NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
   wg0:    1000      10    1    2    0     0          0         0     2000      20    3    4    0     0       0          0
"""  # noqa: E501


def test_counters_are_read_by_the_interfaces_name():
    found = host.parse_counters(PROC_NET_DEV, "wg0")
    assert found == Counters(rx_bytes=1000, rx_packets=10, tx_bytes=2000, tx_packets=20, tx_dropped=4)
    assert (found - found) == counters()
    with pytest.raises(HostError, match="wg1 is gone"):
        host.parse_counters(PROC_NET_DEV, "wg1")


@root
def test_segmentation_is_set_on_both_ends_and_the_hosts_reach_each_other():
    with testbed.two_hosts(segmentation=False) as hosts:
        for host in hosts:
            assert "tx-udp-segmentation: off" in host.run("ethtool", "-k", "veth0")
        hosts[0].run("ping", "-c", "1", "-w", "5", hosts[1].address)
        assert hosts[0].counters("veth0").rx_packets > 0


@root
def test_a_device_that_ends_at_once_is_a_failure_with_its_last_words():
    broken = Implementation(name=OURS, command=("sh", "-c", "echo no such luck; exit 7"), version="")
    result = run.measure(rows.select(["tcp1"]), broken, number=0, seconds=1, tell=print)
    assert result.values == {}
    (failure,) = result.failures
    assert failure.endswith("ended with 7: no such luck")


@root
def test_nothing_stays_when_the_benchmark_is_killed():
    program = (
        "from wgengine.bench.testbed import two_hosts\n"
        "with two_hosts(segmentation=True) as (a, b), a.spawn('sleep', '60') as sleeper:\n"
        "    print(a.pid, b.pid, sleeper.pid, flush=True)\n"
        "    a.run('sleep', '60', timeout=60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        pids = [int(word) for word in killed.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        killed.send_signal(signal.SIGKILL)
    end = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if alive(pid)] == []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- implementation


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"WGENGINE_PEERS": "/p", "XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/p"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/wgengine/peers"),
        ({"HOME": "/h"}, "/h/.cache/wgengine/peers"),
    ],
)
def test_peers_are_looked_for_in_the_cache(environment, directory):
    assert str(implementation.peers_directory(environment)) == directory


def program(path: Path, text: str = "#!/bin/sh\necho boringtun 0.7.1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_peer_in_the_cache_may_be_a_link_to_its_version(tmp_path):
    program(tmp_path / "boringtun-cli-0.7.1")
    (tmp_path / "boringtun-cli").symlink_to("boringtun-cli-0.7.1")
    found = implementation.peer("boringtun-cli", directory=tmp_path)
    assert found.command == (str(tmp_path / "boringtun-cli"), "-f", "--disable-drop-privileges")
    assert found.version == "0.7.1"


def test_a_peer_that_is_not_there_is_told_with_the_place_and_the_remedy(tmp_path):
    with pytest.raises(implementation.NotFound, match=rf"wireguard-go: no executable file {tmp_path}/.*build\.py"):
        implementation.peer("wireguard-go", directory=tmp_path)
    with pytest.raises(implementation.NotFound, match=r"wireguard-go: no executable file /nowhere/x$"):
        implementation.peer("wireguard-go", path="/nowhere/x")


def test_go_programs_tell_their_version_by_their_build_information(tmp_path):
    binary = program(tmp_path / "x", "…\npath\texample.net/w\nmod\texample.net/w\tv0.0.0-2026\th1:abc=\n…")
    assert implementation.peer(BASELINE, path=str(binary)).version == "v0.0.0-2026"


def test_a_stand_in_says_that_it_is_one(tmp_path):
    stand_in = implementation.ours(f"{program(tmp_path / 'other')} -f -v")
    assert stand_in.command == (str(tmp_path / "other"), "-f", "-v")
    assert stand_in.version == "(stand-in: other 0.7.1)"


# --- report


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.0871, "0.087"), (1.2345, "1.23"), (16.04, "16.0"), (259.7, "260")],
)
def test_figures_have_three_digits(value, text):
    assert report.figure(value) == text


def test_the_markdown_table_is_dated_and_names_machine_kernel_and_versions():
    setting = report.Setting(
        day=date(2026, 1, 2), machine="Abacus (2 cores, x86_64)", kernel="Linux 6.1", rounds=5, seconds=3,
        versions=((OURS, "1.0"), (BASELINE, "v0.0.0-2026")),
    )  # fmt: skip
    results = [measured(0, OURS, tcp1=6.0), measured(0, BASELINE, tcp1=4.0), measured(0, "wireguard-go", tcp1=3.0)]
    text = report.markdown(compare.summarise(rows.select(["tcp1"]), results, [BASELINE, "wireguard-go"]), setting)
    assert text.startswith("### 2026-01-02, Abacus (2 cores, x86_64), Linux 6.1\n")
    assert f"{BASELINE} v0.0.0-2026" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[-1] == "| tcp1 | Gbit/s | 6.00 | 4.00 | 1.50 |  | ≥ 1.5 | yes | 3.00 (2.00) |"
    assert len({line.count("|") for line in lines}) == 1


# --- the command


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rows", "tcp1,nonsense"], "no row is named nonsense"),
        (["--peers", "wireguard-rs"], "no peer is named wireguard-rs"),
        (["--peer", "wireguard-go"], "write NAME=PATH"),
        (["--peer", "x=/y"], "write NAME=PATH"),
        (["--json", "--markdown"], "give one of them"),
        (["-o", "/nonexistent/bench.json"], "its directory does not exist"),
        (["--rounds", "0"], "not in the range"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_measured(arguments, complaint):
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def invoke(*arguments: str) -> None:
    bench.main(list(arguments), standalone_mode=False)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("wgengine.cli.bench.missing_programs", lambda: {"iperf3": "iperf3", "ip": "iproute2"})
    with pytest.raises(click.ClickException, match=r"needs iperf3, ip: apt-get install iperf3 iproute2") as caught:
        invoke()
    assert caught.value.exit_code == 1


def test_without_root_it_says_so(monkeypatch):
    monkeypatch.setattr("wgengine.cli.bench.missing_programs", dict)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegeError, match="needs root"):
        invoke()


@root
def test_a_missing_peer_is_left_out_and_a_failing_device_is_exit_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WGENGINE_PEERS", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"not measured for wgengine: tcp1;") as caught:
        invoke("--ours", "false", "--rows", "tcp1", "--rounds", "1", "-o", str(tmp_path / "bench.json"))
    assert caught.value.exit_code == 1
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert (row["ours"], row["peer"], row["ratio"]) == (None, None, None)
    said = capsys.readouterr().err
    assert f"without {BASELINE}: no executable file {tmp_path}/{BASELINE} (" in said
    assert "ended with 1: it wrote nothing" in said


@root
def test_peers_and_silence_of_our_own_device_are_measured(monkeypatch, capsys):
    monkeypatch.setattr(scale, "PEERS", 500)
    monkeypatch.setattr(scale, "_IDLE_S", 1.0)
    names = ("peers_10k_load_s", "peers_10k_bytes_each", "peers_10k_one_change_ms", "idle_wakeups_per_s")
    invoke("--peers", "", "--rounds", "1", "--rows", ",".join(names), "--json")
    found = {row["name"]: row["ours"] for row in json.loads(capsys.readouterr().out)}
    assert 0 < found["peers_10k_load_s"] < 10
    assert 0 < found["peers_10k_one_change_ms"] < 100
    assert found["idle_wakeups_per_s"] >= 0


@root
@pytest.mark.skipif("CI" not in os.environ and not generator.BUILT.exists(), reason="needs wgengine-load: make load")
def test_handshakes_and_a_flood_are_measured(capsys):
    names = "handshakes_per_s,handshake_cpu_us,flood_legit_share_bad_length,reconfig_tcp_ratio"
    invoke("--peers", "", "--rounds", "1", "--seconds", "1", "--rows", names, "--json")
    found = {row["name"]: row["ours"] for row in json.loads(capsys.readouterr().out)}
    assert 10 < found["handshakes_per_s"] < 1e6
    assert 1 < found["handshake_cpu_us"] < 1e5
    assert 0 < found["flood_legit_share_bad_length"] < 10
    assert 0 < found["reconfig_tcp_ratio"] < 10


def test_without_a_load_generator_rows_that_were_asked_for_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("wgengine.cli.bench._check_host", lambda: None)
    with pytest.raises(click.UsageError, match=rf"wgengine-load: no executable file {tmp_path}/none"):
        invoke("--peers", "", "--rows", "handshakes_per_s", "--load", str(tmp_path / "none"))


@root
def test_our_own_device_is_measured(capsys):
    invoke("--peers", "", "--rounds", "1", "--seconds", "1", "--rows", "tcp1,rss_under_load,ping_idle_p50", "--json")
    found = {row["name"]: row["ours"] for row in json.loads(capsys.readouterr().out)}
    assert 0 < found["tcp1"] < 1000
    assert 1 < found["rss_under_load"] < 1000
    assert 0 < found["ping_idle_p50"] < 100
