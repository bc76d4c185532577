"""A private nginx as the baseline: one process, user-level, everything in one directory."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from bench import cpu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONF = """
daemon off; master_process off; worker_processes 1; pid {home}/pid;
error_log {home}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush off; tcp_nodelay on;
  keepalive_requests 100000000; keepalive_timeout 75s;
  client_body_temp_path {home}/body; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  client_max_body_size 0; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port};
    location = /200 {{ default_type application/json; return 200 '{answer}'; }}
    location / {{ root {root}; }}
  }}
}}
"""


class Nginx:
    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid


@contextlib.contextmanager
def nginx(home: Path, root: Path, answer: str = "x" * 200) -> Iterator[Nginx | None]:
    """`/200` answers `answer`, any other path the file below `root`. None: not installed."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        print("nginx is not installed: no such baseline")
        yield None
        return
    port = free_port()
    conf = home / "nginx.conf"
    conf.write_text(_CONF.format(home=home, port=port, root=root, answer=answer))
    with cpu.on_core(cpu.SERVER_CORE):
        process = subprocess.Popen(
            [program, "-p", str(home), "-c", str(conf)], stderr=subprocess.DEVNULL
        )
    try:
        _wait_for(port)
        yield Nginx(port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("nginx did not start")
