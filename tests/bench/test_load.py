"""What the load generator tells is what was measured."""

from bench.load import _read_wrk

SAID = """Running 1s test @ http://127.0.0.1:18999/f
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.33ms  211.08us   4.84ms   92.01%
    Req/Sec     1.50k    96.25     1.60k    90.00%
  Latency Distribution
     50%  870.00us
     75%    1.37ms
     90%    1.44ms
     99%    2.17ms
  1507 requests in 1.01s, 1.95MB read
  Socket errors: connect 0, read 3, write 0, timeout 0
  Non-2xx or 3xx responses: 4
Requests/sec:   1491.11
Transfer/sec:      1.93MB
"""


def test_the_words_of_wrk_are_understood():
    """Short runs, which the other tests make, are done without it."""
    pressed = _read_wrk(SAID, cpu_s=0.25)
    assert (pressed.requests, pressed.seconds, pressed.cpu_s) == (1507, 1.01, 0.25)
    assert (pressed.p50_us, pressed.p99_us) == (870.0, 2170.0)
    assert pressed.errors == 5, "each wrong answer, and one for broken connections"
