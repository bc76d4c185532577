"""The list of fixture plugins, nothing else."""

pytest_plugins = [
    "tests.fix_conformance",
    "tests.fix_files",
    "tests.fix_hypothesis",
    "tests.fix_logging",
    "tests.fix_meta",
    "tests.fix_fleet",
    "tests.fix_network",
    "tests.fix_order",
    "tests.fix_postgres",
    "tests.fix_providers",
    "tests.fix_s3",
    "tests.fix_tls",
]
