"""`python -m bench [NAME...] [--quick]`: run the benchmarks, all by default.

A benchmark is a module of this package with `run(quick: bool) -> None`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    found = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(found)}")
    parser.add_argument("--quick", action="store_true", help="seconds: shows that it works")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(found)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(found)}")
    for name in arguments.names or found:
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"bench.{name}").run(arguments.quick)
    return 0


def names() -> list[str]:
    """The modules that define `run`, found without importing any."""
    package = Path(__file__).parent
    return [
        module.name
        for module in pkgutil.iter_modules([str(package)])
        if "\ndef run(quick: bool)" in (package / f"{module.name}.py").read_text()
    ]


if __name__ == "__main__":
    sys.exit(main())
