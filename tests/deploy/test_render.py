"""`fs9 deploy render`: whole files for the settings at hand, and refusals in words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
import yaml

from fs9.cli.main import main
from router.ring import BUCKETS, Ring
from tests.arch.tree import ROOT
from tests.deploy.conftest import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet

NAMES = ["default", "a", "tenant-7", "x" * 64, "0_-"]


@pytest.fixture
def render(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`render(target, *flags, yaml=…)`: what the command writes, in an empty environment."""
    for name in list(os.environ):
        if name.startswith("FS9_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(target: str, *flags: str, yaml: str = "{}", status: int = 0) -> str:
        (tmp_path / "fs9.yaml").write_text(yaml)
        arguments = ["deploy", "render", target, "-c", str(tmp_path / "fs9.yaml")]
        if not any(flag == "--data-dir" for flag in flags):
            arguments += ["--data-dir", str(tmp_path / "data")]
        assert main([*arguments, *flags]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return run


def test_the_files_in_deploy_are_what_the_command_writes() -> None:
    """For the example deploy/fs9.yaml."""
    command = [sys.executable, str(ROOT / "tools" / "render_deploy.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("slots", [1, 3, 40])
def test_the_script_of_nginx_places_as_the_ring(
    render: Callable[..., str], slots: int, tmp_path: Path
) -> None:
    """Its table, and its CRC where there is a JavaScript engine to run it."""
    text = render("njs", "--workers", str(slots))
    width = 1 if slots <= 36 else 2
    table = re.search(r"OWNERS = '\\\n(.*?)'", text, re.DOTALL)
    assert table is not None
    digits = table[1].replace("\\\n", "")
    assert len(digits) == BUCKETS * width
    ring = Ring(range(slots))
    for name in NAMES:
        start = crc32(name.encode()) % BUCKETS * width
        assert int(digits[start : start + width], 36) == ring.owner(name)
    if shutil.which("node") is None:
        return
    (tmp_path / "ns.mjs").write_text(text)
    calls = [
        f"fs9.place({{variables: {{request_uri: '/{name}/api/v1/stat?path=/'}}, headersIn: {{}}}})"
        for name in NAMES
    ]
    script = f"import fs9 from './ns.mjs'; console.log([{', '.join(calls)}].join(' '))"
    (tmp_path / "try.mjs").write_text(script)
    done = subprocess.run(["node", "try.mjs"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == [str(ring.owner(name)) for name in NAMES], done.stderr


@pytest.mark.parametrize("slots", ["1", "2", "40"])
def test_nginx_and_envoy_take_their_files(
    render: Callable[..., str], slots: str, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    flags = ["--workers", slots, "--state-dir", str(tmp_path / "state")]
    flags += ["--log-dir", str(tmp_path), "--njs-file", str(tmp_path / "ns.js")]
    (tmp_path / "ns.js").write_text(render("njs", *flags))
    (tmp_path / "nginx.conf").write_text(render("nginx", *flags))
    (tmp_path / "envoy.yaml").write_text(render("envoy", *flags))
    for command in (
        [program("nginx"), "-t", "-c", str(tmp_path / "nginx.conf")],
        [program("envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr.replace(
            '[warn] the "user" directive makes sense only', ""
        )


def test_limits_and_timeouts_are_those_of_the_settings(render: Callable[..., str]) -> None:
    text = """
    server:
      max_write_size_bytes: 12345678
      request_timeout_secs: 45
      max_concurrent_requests: 70
      limits: {keep_alive_secs: 100, max_headers_bytes: 65536, header_timeout_secs: 7}
    """
    nginx = render("nginx", yaml=text)
    for line in (
        "client_max_body_size 12345678;",
        "large_client_header_buffers 4 84k;",
        "client_header_timeout 12000ms;",
        "proxy_read_timeout 50000ms;",
        "keepalive_timeout 100000ms;",
        "keepalive_timeout 80000ms;",
    ):
        assert line in nginx, line
    envoy = yaml.safe_load(render("envoy", yaml=text))
    listener = envoy["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["max_request_headers_kb"] == 84
    assert manager["stream_idle_timeout"] == "50s"
    assert manager["request_headers_timeout"] == "12s"
    cluster = envoy["static_resources"]["clusters"][0]
    assert cluster["circuit_breakers"]["thresholds"][0]["max_requests"] == 140


def test_a_running_fleet_is_asked_for_the_number_of_its_workers(
    render: Callable[..., str], start_fleet: Callable[..., Fleet]
) -> None:
    """By its data directory; a flag wins, and a fleet that has ended counts for nothing."""
    fleet = start_fleet(workers=3)
    data_dir = ["--data-dir", str(fleet.data_dir)]
    pattern = re.compile(r"upstream fs9_(\d+) ")
    assert pattern.findall(render("nginx", *data_dir)) == ["0", "1", "2"]
    assert pattern.findall(render("nginx", *data_dir, "--workers", "2")) == ["0", "1"]
    assert str(fleet.run_directory / "slot-2.front") in render("envoy", *data_dir)
    fleet.stop()
    text = "server: {workers: 5}"
    assert len(pattern.findall(render("nginx", *data_dir, yaml=text))) == 5


def test_a_drained_slot_is_taken_out_until_it_serves_again(
    render: Callable[..., str], start_fleet: Callable[..., Fleet]
) -> None:
    """No bucket is its own, and no group names its socket; a spare steps over it."""
    fleet = start_fleet(workers=4)
    data_dir = ["--data-dir", str(fleet.data_dir)]
    whole = render("njs", *data_dir), render("nginx", *data_dir), render("envoy", *data_dir)
    assert main(["fleet", "drain", "1", *data_dir]) == 0
    script, nginx, envoy = (render(target, *data_dir) for target in ("njs", "nginx", "envoy"))
    table = re.search(r"OWNERS = '\\\n(.*?)'", script, re.DOTALL)
    assert table is not None
    digits = table[1].replace("\\\n", "")
    assert len(digits) == BUCKETS
    ring = Ring([0, 2, 3])
    assert [int(digit) for digit in digits] == list(ring.table())
    assert "slot-1.front" not in nginx + envoy
    assert re.findall(r"upstream fs9_(\d+) ", nginx) == ["0", "2", "3"]
    first = nginx[nginx.index("upstream fs9_0 ") : nginx.index("upstream fs9_0_once")]
    assert re.findall(r"slot-(\d)\.front", first) == ["0", "2", "3"]
    assert digits in envoy.replace(" ", "").replace("\n", "")
    assert main(["fleet", "undrain", "1", *data_dir]) == 0
    assert (render("njs", *data_dir), render("nginx", *data_dir)) == whole[:2]
    assert render("envoy", *data_dir) == whole[2]


def test_what_cannot_be_is_refused_in_words(render: Callable[..., str]) -> None:
    for target, flags, text in (
        ("nginx", ["--listen", "0.0.0.0:80"], "every request would be trusted"),
        ("envoy", ["--listen", "[::]:80"], "every request would be trusted"),
        ("nginx", ["--listen", "80"], "--listen takes"),
        ("nginx", ["--listen", "127.0.0.1:0"], "--listen takes"),
        ("nginx", ["--listen", "localhost:80"], "--listen takes"),
        ("systemd", ["--data-dir", "/srv/" + "x" * 200], "too long a path"),
    ):
        error = render(target, *flags, status=1)
        assert text in error, flags
    with pytest.MonkeyPatch.context() as patch:  # Debian's nobody has no group of its name
        patch.setattr("fs9.cli.deploy._group", {"nobody": "nogroup"}.__getitem__)
        assert "\nuser nobody nogroup;\n" in render("nginx", "--user", "nobody")
    assert "\nuser no-such-user;\n" in render("nginx", "--user", "no-such-user")
    assert "listen 0.0.0.0:80 " in render("nginx", "--listen", "0.0.0.0:80", "--insecure")
    assert "listen [::1]:80 " in render("nginx", "--listen", "[::1]:80")


def test_the_unit_of_systemd_is_well_formed_and_hardened(
    render: Callable[..., str], tmp_path: Path
) -> None:
    """Its words are quoted, and the mounts outside of the data directory can be written."""
    text = """
    mounts: [{path: /, provider: localfs, config: {root: /srv/files}}]
    server: {shutdown_timeout_secs: 12}
    """
    flags = ["--data-dir", "/srv/fs9", "--port", "80", "--program", "/opt/a b/100%"]
    unit = render("systemd", *flags, yaml=text)
    assert 'ExecStart="/opt/a b/100%%" serve --data-dir /srv/fs9 -c ' in unit
    assert '\nExecReload="/opt/a b/100%%" fleet reload --data-dir /srv/fs9\n' in unit
    assert "\nType=notify\n" in unit
    assert "\nTimeoutStopSec=17\n" in unit
    assert "\nReadWritePaths=/srv/fs9\nReadWritePaths=/srv/files\n" in unit
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in unit
    assert f"WorkingDirectory={tmp_path}/here\n" in render("systemd", "--data-dir", "here")
    unit = render("systemd", "--data-dir", "/var/lib/fs9", "--program", "/bin/true")
    assert "\nStateDirectory=fs9\n" in unit
    if shutil.which("systemd-analyze") is None:
        return
    path = tmp_path / "fs9.service"
    path.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-200:]
