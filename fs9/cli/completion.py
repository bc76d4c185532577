"""`fs9 completion`: the completion script of a shell, made from the parsers themselves.

bash:  fs9 completion bash > ~/.local/share/bash-completion/completions/fs9
zsh:   fs9 completion zsh > a directory of $fpath, as the file _fs9
tcsh:  fs9 completion tcsh > ~/.fs9.completion, and `source` it
"""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "tcsh")
#: Commands whose paths are local, at least the first ones.
_LOCAL_PATHS = {"put", "get"}
_LOCAL_FILES = {"token_file", "config", "data_dir"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print the completion script of a shell",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.add_argument(
        "--program", choices=("fs9", "fs9-admin"), default="fs9", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    import shtab

    from fs9.cli import admin
    from fs9.cli.main import make_parser

    parser = admin.make_parser() if args.program == "fs9-admin" else make_parser()
    for name, subparser in _commands(parser).items():
        for action in subparser._actions:
            local = action.dest == "paths" and name in _LOCAL_PATHS
            if local or action.dest in _LOCAL_FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=args.shell))
    return 0


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
