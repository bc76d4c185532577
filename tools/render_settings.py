"""Write fs9.example.yaml and docs/configuration.md, or with `--check` say what is not current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fs9.config.reference import example, page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"fs9.example.yaml": example, "docs/configuration.md": page}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = [name for name, render in PAGES.items() if _current(name) != render()]
    for name in stale:
        if check:
            print(f"{name} is not current: run tools/render_settings.py", file=sys.stderr)
        else:
            (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


def _current(name: str) -> str | None:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
