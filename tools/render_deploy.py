"""Write the files in deploy/ for the example deploy/fs9.yaml, or with `--check` say what is
not current. They are what `fs9 deploy render` writes with the flags below."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from fs9.cli.main import main as fs9

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "deploy/nginx/fs9.conf": "nginx --listen 0.0.0.0:80 --user fs9",
    "deploy/nginx/ns.js": "njs",
    "deploy/envoy/envoy.yaml": "envoy --listen 0.0.0.0:80 --user fs9",
    "deploy/systemd/fs9.service": "systemd --program /opt/fs9/bin/fs9 --user fs9",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = [name for name in PAGES if _current(name) != rendered(name)]
    for name in stale:
        if check:
            print(f"{name} is not current: run tools/render_deploy.py", file=sys.stderr)
        else:
            (ROOT / name).parent.mkdir(exist_ok=True)
            (ROOT / name).write_text(rendered(name), encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


def rendered(name: str) -> str:
    """What the file should be, whatever the environment and the user's own settings."""
    config = "/etc/fs9/fs9.yaml" if name.endswith(".service") else "deploy/fs9.yaml"
    kept = dict(os.environ)
    out = io.StringIO()
    os.environ.clear()
    # The secret must be there; no file says it.
    os.environ.update(FS9_CONFIG=str(ROOT / "deploy/fs9.yaml"), FS9_JWT_SECRET="x" * 32)
    try:
        with contextlib.redirect_stdout(out):
            status = fs9(["deploy", "render", *PAGES[name].split(), "-c", config])
    finally:
        os.environ.clear()
        os.environ.update(kept)
    if status:
        raise SystemExit(status)
    return out.getvalue()


def _current(name: str) -> str | None:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
