"""Settings about tenants: quotas, what they may mount, how long deleted ones are kept."""

from __future__ import annotations

from dataclasses import dataclass

from fs9.config.declaring import declare
from fs9.config.kinds import Networks, Texts, Whole

#: What stores in the namespace's own storage, or nothing, and reaches nothing else.
HARMLESS_PROVIDERS = ("hellofs", "kv", "kvfs", "memfs", "pagefs", "pubsubfs", "streamfs")


@dataclass(frozen=True)
class TenantSettings:
    """Part of `Settings`."""

    quota_bytes_max: int | None = declare(
        "server.quota.bytes_max",
        Whole("bytes"),
        "When set, each namespace may hold this much in pagefs, localfs and memfs, unless its own"
        " quota says otherwise; more is answered 507.",
        optional=True,
        example=10_000_000_000,
    )
    quota_files_max: int | None = declare(
        "server.quota.files_max",
        Whole(),
        "The same for the number of files, directories and symbolic links.",
        optional=True,
        example=1_000_000,
    )
    namespace_retention_s: int = declare(
        "server.namespace_retention_secs",
        Whole(least=0),
        "For how long the data of a deleted namespace is kept, unless it is purged. Its name can"
        " be used again at once, by a namespace that sees none of that data.",
        default=7 * 86_400,
        default_text="604800 (seven days)",
    )
    mount_providers: tuple[str, ...] = declare(
        "server.mounts_policy.providers",
        Texts(),
        "What admins and operators of a namespace may mount in it over HTTP. Administrators of the"
        " server may mount any provider. The default keeps to the namespace's own storage;"
        " `pagefs` means its forms on this host alone, `localfs` and `proxyfs` need the two lists"
        " below.",
        default=HARMLESS_PROVIDERS,
        default_text="those that reach nothing outside of the namespace",
        example=(*HARMLESS_PROVIDERS, "proxyfs"),
    )
    mount_localfs_roots: tuple[str, ...] = declare(
        "server.mounts_policy.localfs_roots",
        Texts(),
        "Directories below which they may mount `localfs`, as they are without symbolic links;"
        " `{namespace}` stands for their own.",
        default=(),
        default_text="none",
        example=("/srv/tenants/{namespace}",),
    )
    mount_proxy_targets: tuple[str, ...] = declare(
        "server.mounts_policy.proxy_targets",
        Texts(),
        "Servers that they may mount with `proxyfs`, each as `HOST` or `HOST:PORT`.",
        default=(),
        default_text="none",
        example=("files.example.org", "files.example.com:9999"),
    )
    mount_networks: tuple[str, ...] = declare(
        "server.mounts_policy.networks",
        Networks(),
        "Networks that are not public (loopback, private, link-local and the like) to which mounts"
        " made over HTTP may connect, whoever made them. Mounts of these settings may connect"
        " anywhere.",
        default=(),
        default_text="none",
        example=("10.20.0.0/16",),
    )
