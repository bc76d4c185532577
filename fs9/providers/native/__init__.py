"""Native plugins: providers in shared libraries, by a C interface.

    Registry ── manager ── provider ──┬─ process ── link ── frames ──> host ─┐
                                      └─ inline ─────────────────────────────┴─> tree ── calls

Left of the upper arrow is the worker; `library` and `abi` are below `calls`. By default each
mount has a process of its own, so that a plugin that crashes or hangs takes nothing with it.
"""
