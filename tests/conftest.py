"""The list of fixture plugins, nothing else."""

pytest_plugins = ["tests.fix_providers"]
