"""S-3 and S-4: where keys must not be found, and who may not come near them."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import SOCKETS, is_wgengine, need, until
from peers.device import to_hex
from peers.program import start
from peers.secrets import found_in, found_in_memory
from peers.tunnel import between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab

ours_only = pytest.mark.skipif(not is_wgengine(), reason="promises of wgengine")

LIBRARY = """
import subprocess
own = wgengine.PrivateKey.from_file(f"{path}.private")
peer = wgengine.Peer(
    public_key=config.peers[0].public_key,
    preshared_key=wgengine.PresharedKey.from_file(f"{path}.preshared"),
    allowed_ips=["10.9.0.2/32"],
    endpoint=str(config.peers[0].endpoint),
)
real = wgengine.Config(private_key=own, listen_port=51820, addresses=["10.9.0.1/24"], peers=[peer])
with wgengine.sync.Engine(real, name=name) as engine:
    step("ready")
    step("open")
    for _ in range(3):
        subprocess.run(["wg", "show", name, "private-key"], stdout=subprocess.DEVNULL, check=True)
del engine, real, peer, own
gc.collect()
step("closed")
"""


def test_s3_nothing_of_the_keys_is_in_memory_after_close(lab: Lab) -> None:
    """A library's host may write a core file whenever it likes, so what is closed is wiped."""
    program = start(lab, LIBRARY, keys_apart=True)
    private, preshared = program.keys
    program.reaches("ready")
    assert program.far.host.ping("10.9.0.1") == 1
    program.go_on()
    program.reaches("open")
    held = found_in_memory(program.process.pid, private, preshared)
    assert any("key 0 raw" in hit for hit in held), "the search finds what must be there"
    program.go_on()
    program.reaches("closed")
    assert found_in_memory(program.process.pid, private, preshared) == []
    program.go_on()
    program.ends()


BY_SOCKET = """
from wgengine._native import Device
device = Device(name=name, uapi=True)
step("ready")
device.close()
step("closed")
"""


def test_s3_nothing_of_the_keys_that_wg_set_and_read_is_in_memory_after_close(lab: Lab) -> None:
    """Requests, replies and rows alike. Closed is enough: the object is still there."""
    program = start(lab, BY_SOCKET, keys_apart=True)
    private, preshared = program.keys
    program.reaches("ready")
    program.host.run("wg", "setconf", program.name, program.whole)
    program.host.run("ip", "address", "add", "10.9.0.1/24", "dev", program.name)
    program.host.run("ip", "link", "set", program.name, "up")
    assert program.far.host.ping("10.9.0.1") == 1
    for _ in range(3):
        assert private in program.host.run("wg", "showconf", program.name)
    assert found_in_memory(program.process.pid, private, preshared), "the search finds what must be there"
    program.go_on()
    program.reaches("closed")
    assert found_in_memory(program.process.pid, private, preshared) == []
    program.go_on()
    program.ends()


TOLD = """
import contextlib, dataclasses, io, logging, traceback, warnings
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
own, psk = wgengine.PrivateKey.from_file(f"{path}.private"), wgengine.PresharedKey.from_file(f"{path}.preshared")
text = open(f"{path}.whole").read()
peer = wgengine.Peer(public_key=config.peers[0].public_key, preshared_key=psk, allowed_ips=["10.9.0.2/32"],
    endpoint=str(config.peers[0].endpoint))
real = wgengine.Config(private_key=own, listen_port=51820, addresses=["10.9.0.1/24"], peers=[peer])

def tell(*things):
    for thing in things:
        print(repr(thing), str(thing), ascii(thing))

def fail(call):
    try:
        call()
    except Exception as error:
        traceback.print_exception(error)
        tell(error, error.args, vars(error))

secret = own.to_base64()
wrong = [
    f"[Interface]\\nPrivateKey = {secret}x\\n",
    f"[Interface]\\nPrivateKey {secret}\\n",
    f"[Interface]\\n{secret} = 1\\n",
    f"[Interface]\\nMTU = {secret}\\n",
    f"[Interface]\\nAddress = {secret}\\n",
    f"[Peer]\\nPublicKey = {secret}\\nEndpoint = {secret}\\n",
    f"{secret}\\n",
    text + f"[Peer]\\nPublicKey = {config.peers[0].public_key}\\nPresharedKey = {psk.to_hex()}\\n",
]
for bad in wrong:
    fail(lambda: wgengine.Config.from_text(bad))
fail(lambda: wgengine.PrivateKey.from_base64(secret[1:]))
fail(lambda: wgengine.PresharedKey.from_hex(psk.to_hex() + "0"))
fail(lambda: wgengine.PublicKey.from_base64(secret + secret))
tell(own, psk, real, peer, wgengine.Config.from_text(text), dataclasses.asdict(real))
with wgengine.sync.Engine(real, name=name) as engine, engine.events() as events:
    step("ready")
    tell(engine, engine.status(), engine.status().peers, vars(engine), vars(engine._engine), events)
    tell(engine.plan(config), list(engine.plan(config)), engine.plan(config).steps)
    with contextlib.suppress(wgengine.TimedOutError):
        while True:
            tell(events.get(timeout=0.5))
    print(json.dumps(engine.status().to_dict() if hasattr(engine.status(), "to_dict") else {}, default=str))
    tell(engine.apply(real.replace(peers=[])), engine.apply(real), engine.status())
step("told")
"""


def test_s3_no_key_in_what_an_engine_says(lab: Lab) -> None:
    """Everything that can be printed, at the lowest level of the log, with wrong input that holds keys."""
    program = start(lab, TOLD, keys_apart=True)
    private, preshared = program.keys
    program.reaches("ready")
    assert program.far.host.ping("10.9.0.1") == 1
    shown = program.host.run(sys.executable, "-m", "wgengine", "status", "--json")
    assert program.name in shown
    program.go_on()
    program.reaches("told")
    said = program.process.log
    assert said.count("Error") > 10, "the wrong inputs were refused"
    proc = Path(f"/proc/{program.process.pid}")
    around = (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
    assert found_in(said.encode() + shown.encode() + around, private, preshared) == []
    program.go_on()
    assert program.process.wait() == 0


@ours_only
def test_s3_no_key_in_what_a_device_says(lab: Lab) -> None:
    tunnel = between(lab, psk=True, env={"LOG_LEVEL": "verbose"})
    a = tunnel.a
    assert tunnel.ping() == 1
    hexadecimal = to_hex(a.private)
    for wrong in (
        f"set=1\nprivate_key={hexadecimal}0",
        f"set=1\nprivate_key={hexadecimal[:-2]}zz",
        f"set=1\n{hexadecimal}=1",
        f"set=1\nlisten_port={hexadecimal}",
        f"set=1\npublic_key={hexadecimal}\nendpoint={hexadecimal}",
        f"get={hexadecimal}",
    ):
        answer = a.uapi(wrong)
        assert "errno=0" not in answer
        assert hexadecimal not in answer
    shown = a.host.run(sys.executable, "-m", "wgengine", "status", "--json")
    proc = Path(f"/proc/{a.pid}")
    around = (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
    assert "uapi refused" in a.log
    assert found_in(a.log.encode() + shown.encode() + around, a.private, tunnel.psk) == []


@contextmanager
def cores() -> Iterator[None]:
    """What is started here may write core files."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def dumps_core(pid: int) -> bool:
    """Whether a child that is about to die leaves a core file."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGSEGV
    return ended.si_code == os.CLD_DUMPED


@ours_only
@pytest.mark.parametrize("verb", ["device", "up"])
def test_s3_a_daemon_of_ours_leaves_no_core(lab: Lab, verb: str, tmp_path: Path) -> None:
    """(C5) A library leaves that to its host; a program of ours decides it for itself."""
    with cores():
        control = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
        control.send_signal(signal.SIGSEGV)
        need(dumps_core(control.pid), "this machine writes no core files, whatever a program wants")
        control.wait()
        if verb == "device":
            device = lab.wgengine(lab.host())
            assert device.process is not None
            process, name = device.process, device.name
        else:
            program = start(lab, "", keys_apart=True)
            program.process.stop()
            name = program.name
            process = program.host.spawn(sys.executable, "-m", "wgengine", "up", program.whole, "--name", name)
            until((SOCKETS / f"{name}.sock").exists, "it serves")
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (row,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert row.split()[4:6] == ["0", "0"]
    process.send_signal(signal.SIGSEGV)
    assert not dumps_core(process.pid)
    process.wait()
    (SOCKETS / f"{name}.sock").unlink(missing_ok=True)


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")


@ours_only
def test_s4_nobody_else_talks_to_the_socket(lab: Lab) -> None:
    device = lab.wgengine(lab.host())
    found = device.socket_path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    folder = device.socket_path.parent.stat()
    assert not folder.st_mode & 0o022, "others could put a socket of their own there"
    ask = f"import socket; socket.socket(socket.AF_UNIX).connect({str(device.socket_path)!r})"
    said = device.host.attempt(*NOBODY, sys.executable, "-c", ask)
    assert "PermissionError" in said.stderr
    remove = f"import os; os.unlink({str(device.socket_path)!r})"
    assert "PermissionError" in device.host.attempt(*NOBODY, sys.executable, "-c", remove).stderr
    assert device.answers()
    # nor looks into the process
    memory = f"open('/proc/{device.pid}/mem', 'rb')"
    assert "PermissionError" in device.host.attempt(*NOBODY, sys.executable, "-c", memory).stderr


@ours_only
@pytest.mark.parametrize("leads_to", ["a file", "nothing", "a living socket"])
def test_s4_a_symbolic_link_in_the_sockets_place_is_not_followed(lab: Lab, leads_to: str, tmp_path: Path) -> None:
    host, name = lab.host(), lab.interface()
    target, link = tmp_path / "target", SOCKETS / f"{name}.sock"
    SOCKETS.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as other:
        if leads_to == "a file":
            target.write_text("precious")
        elif leads_to == "a living socket":
            other.bind(str(target))
            other.listen()
        link.symlink_to(target)
        try:
            said = host.attempt(sys.executable, "-m", "wgengine", "device", "-f", name, timeout_s=10)
            assert said.returncode != 0
            assert name in said.stderr
            assert link.is_symlink()
            assert target.exists() == (leads_to != "nothing")
            assert leads_to != "a file" or target.read_text() == "precious"
            assert name not in host.links()
        finally:
            link.unlink()
