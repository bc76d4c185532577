"""The memory of a worker does not depend on how large a file is."""

import os
import socket
from pathlib import Path

MIB = 2**20
SIZE = 2048 * MIB
GROWTH_MAX = 64 * MIB
YAML = f"server: {{max_write_size_bytes: {SIZE}}}\n"
PIECE = os.urandom(MIB)


def memory(pid, field):
    """A size of proc(5), in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def growth(pid, transfer):
    """How far the resident memory rises during a transfer, at its highest."""
    before = memory(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts again from here
    transfer()
    return memory(pid, "VmHWM") - before


def numbered(index):
    """The MiB of this number of the file; no two are the same."""
    return index.to_bytes(8, "big") + PIECE[8:]


def upload(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        head = "PUT /api/v1/upload?path=/big HTTP/1.1\r\nHost: test\r\n"
        sock.sendall(f"{head}Content-Length: {SIZE}\r\n\r\n".encode())
        for index in range(SIZE // MIB):
            sock.sendall(numbered(index))
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b'"bytes_written":%d' % SIZE in answer


def download(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"GET /api/v1/download?path=/big HTTP/1.1\r\nHost: test\r\n\r\n")
        with sock.makefile("rb", buffering=MIB) as answer:
            assert answer.readline().startswith(b"HTTP/1.1 200")
            while (line := answer.readline()) != b"\r\n":
                assert line
            for index in range(SIZE // MIB):
                assert answer.read(MIB) == numbered(index)


def test_two_gib_up_and_down_in_bounded_memory(start_fleet):
    """Through one worker, one connection at a time, with data larger than any buffer."""
    fleet = start_fleet(workers=1, yaml=YAML)
    pid = fleet.pid_of(0)
    assert growth(pid, lambda: upload(fleet.port)) < GROWTH_MAX
    assert growth(pid, lambda: download(fleet.port)) < GROWTH_MAX
