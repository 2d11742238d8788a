"""tools/check_borders.py: a border that is crossed is named with its line; what only looks like it is let be."""

from pathlib import Path

import check_borders as borders
import pytest

HERE = Path("lib.rs")


@pytest.mark.parametrize(
    "source",
    [
        "use std::fs;",
        "use std::{collections::HashMap, thread};",
        "use std::time::{Duration, Instant};",
        "use std::net::{IpAddr, UdpSocket};",
        "fn f() { std::process::exit(1) }",
        "fn now() -> u64 { std::time::SystemTime::now() }",
    ],
)
def test_the_core_may_not_touch_the_world(source: str) -> None:
    assert list(borders.rust_violations("core", HERE, source))
    assert not list(borders.rust_violations("io", HERE, source))
    assert not list(borders.rust_violations("core", Path("request_tests.rs"), source)), "a test may take the time"


@pytest.mark.parametrize(
    "source",
    [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::time::Duration;",
        "// std::fs is not for us, nor is unsafe or boringtun\npub mod packet;",
        'const TEXT: &str = "std::thread unsafe boringtun";',
        "const QUOTE: char = '\"'; // a quote must not hide what follows\nfn f<'a>(x: &'a str) {}",
        'const RAW: &str = r#"a "quoted" unsafe"#;',
    ],
)
def test_what_only_looks_like_a_crossing_is_let_be(source: str) -> None:
    assert not list(borders.rust_violations("core", HERE, source))


def test_unsafe_and_boringtun_have_their_crates() -> None:
    for crate, unsafe_ok, boringtun_ok in [
        ("core", False, False),
        ("noise", False, True),
        ("io", True, False),
        ("py", True, False),
    ]:
        assert bool(list(borders.rust_violations(crate, HERE, "unsafe { f() }"))) is not unsafe_ok
        assert bool(list(borders.rust_violations(crate, HERE, "use boringtun::noise;"))) is not boringtun_ok


def test_a_violation_names_its_line() -> None:
    source = "/* one\ntwo */\n'x';\nuse std::fs;\n"
    assert [text.split(":")[1] for text in borders.rust_violations("core", HERE, source)] == ["4"]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import wgengine._native", [1]),
        ("\nfrom wgengine import Engine, _native", [2]),
        ("from wgengine._native import Device", [1]),
        ("def f():\n    from ._native import Device", [2]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wgengine._native import Device", []),
        ("from wgengine.keys import PublicKey", []),
    ],
)
def test_imports_of_the_native_module_are_seen(source: str, lines: list[int]) -> None:
    assert list(borders.native_imports(source)) == lines


@pytest.mark.parametrize(
    ("crate", "source", "crossed"),
    [
        ("io", "use pyo3::prelude::*;", True),
        ("core", "fn f(x: pyo3::Py<pyo3::PyAny>) {}", True),
        ("py", "std::thread::spawn(|| ());", True),
        ("py", "Python::attach(|py| ());", True),
        ("py", "use pyo3::prelude::*;\nfn f(py: Python<'_>) { py.detach(|| ()) }", False),
        ("io", "std::thread::spawn(|| ());", False),
    ],
)
def test_c6_gil_no_thread_of_ours_can_wait_for_the_interpreter(crate: str, source: str, crossed: bool) -> None:
    assert bool(list(borders.rust_violations(crate, HERE, source))) is crossed
