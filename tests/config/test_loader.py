"""defaults < files < environment < flags, key by key; what cannot be used is refused by name."""

import pickle
from pathlib import Path

import pytest

from fs9.config import (
    EMBEDDED_MOUNTS,
    SETTINGS,
    ConfigError,
    Flags,
    Settings,
    check_exposure,
    is_loopback,
    load,
)
from fs9.config.limit_settings import LIMIT_SETTINGS
from fs9.config.settings import RESERVED_KEYS, RESERVED_VARIABLES
from fs9.limits import Limits
from fs9.types import MountSpec, PluginSpec

LONG_SECRET = "0123456789abcdef0123456789abcdef"


class Host:
    """A host with nothing on it: its own system file, home, working directory, environment."""

    def __init__(self, root: Path) -> None:
        self.system = root / "etc" / "fs9" / "fs9.yaml"
        self.home = root / "home"
        self.user = self.home / ".config" / "fs9" / "fs9.yaml"
        self.cwd = root / "work"
        self.local = self.cwd / "fs9.yaml"
        self.named = root / "named.yaml"
        self.cwd.mkdir()
        self.environ = {"HOME": str(self.home)}

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def load(self, flags: Flags | None = None, **environ: str) -> Settings:
        return load(flags or Flags({}), self.environ | environ, self.cwd, system_file=self.system)

    def read(self, text: str, **environ: str) -> Settings:
        self.write(self.local, text)
        return self.load(**environ)

    def refused(self, text: str, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            self.read(text, **environ)
        return str(caught.value)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


# -- Order ----------------------------------------------------------------------------------


def test_without_any_source_the_defaults_hold(host):
    """Nothing given: the declared defaults, all from `default`."""
    settings = host.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 9999)
    assert settings.workers >= 1
    assert settings.data_dir == host.cwd / "fs9-data"
    assert settings.mounts == settings.namespace_template == EMBEDDED_MOUNTS
    assert settings.limits == Limits()
    assert not settings.auth_enabled
    assert settings.warnings == ()
    assert {settings.origin(setting) for setting in SETTINGS} == {"default"}


def test_every_source_overrides_the_ones_before_it(host):
    """System file < user file < working directory < environment < flags."""
    names = ["system", "user", "local"]
    for name in names:
        host.write(getattr(host, name), f"server: {{host: {name}}}\n")
    assert host.load().host == "local"
    assert host.load(FS9_HOST="env").host == "env"
    assert host.load(Flags({"server.host": "flag"}), FS9_HOST="env").host == "flag"
    host.local.unlink()
    assert host.load().host == "user"
    host.user.unlink()
    assert host.load().host == "system"


def _other_value(setting):
    """A text for YAML that is valid for the setting and not its default."""
    match setting.kind.title:
        case "true or false":
            return "false" if setting.default else "true"
        case "bytes" | "whole number":
            return str((setting.default or 4) + 1)
        case "seconds":
            return str(setting.default * 1.5)
        case "list of mounts":
            return "[{path: /x, provider: memfs}]"
        case "list of networks":
            return "[10.0.0.0/8]"
        case "list of texts":
            return "[something]"
        case "list of namespaces":
            return "[root]"
        case "list of name and path":
            return "[{name: x, path: x.so}]"
        case title if title.startswith("a path as"):
            return "/.fs9/files/"
        case title if title.startswith("sqlite:PATH"):
            return "sqlite:/other.db"
        case title if title.startswith("`ipc` or"):
            return "tcp://127.0.0.1:9997"
        case title if title.startswith("list of addresses"):
            return "[unix]"
        case title if title.startswith("http://"):
            return "http://127.0.0.1:1"
        case title if title.startswith("one of"):
            return setting.kind.choices[-1]
        case _:
            return "debug" if setting.key == "logging.filter" else "something"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_key_of_every_file_merges(host, setting):
    """A key in the system file holds although two other files exist that do not have it."""
    nested = text = _other_value(setting)
    for name in reversed(setting.key.split(".")):
        nested = f"{{{name}: {nested}}}"
    if setting.key == "server.auth.enabled":
        host.environ["FS9_JWT_SECRET"] = LONG_SECRET
    host.write(host.system, nested)
    host.write(host.user, "data_dir: x\n" if setting.key != "data_dir" else "{}\n")
    host.write(host.local, "server:\n  auth:\n")
    settings = host.load()
    assert settings.origin(setting) == f"{host.system}:1"
    assert settings.value(setting) != setting.default, text


def test_lists_are_replaced_as_a_whole(host):
    """The nearer file's mounts are all the mounts."""
    host.write(host.system, "mounts: [{path: /a, provider: memfs}, {path: /b, provider: memfs}]\n")
    assert host.read("mounts: [{path: /c, provider: memfs}]\n").mounts == (
        MountSpec("/c", "memfs"),
    )


def test_plugins(host):
    """None by default; paths become absolute; one directory needs no list; the variable wins."""
    settings = host.read("{}\n")
    assert (settings.plugin_directories, settings.plugin_preload) == ((), ())
    assert not settings.plugins_api
    settings = host.read(
        "server: {plugins: {directories: [a, /b], preload: [{name: m, path: m.so}]}}\n"
    )
    assert settings.plugin_directories == (host.cwd / "a", Path("/b"))
    assert settings.plugin_preload == (PluginSpec("m", host.cwd / "m.so"),)
    host.environ["FS9_PLUGIN_DIR"] = "/c"
    assert host.read("server: {plugins: {directories: d}}\n").plugin_directories == (Path("/c"),)
    for wrong in ("directories: ['']", "preload: {m: m.so}", "preload: [{name: m}]"):
        with pytest.raises(ConfigError, match=r"server\.plugins\."):
            host.read(f"server: {{plugins: {{{wrong}}}}}\n")


def test_administrators_come_from_named_namespaces(host):
    """No name that no namespace can have, and none at all is possible."""
    key = "server: {auth: {admin_namespaces: %s}}\n"
    assert host.read(key % "[root, ops]").admin_namespaces == ("root", "ops")
    assert host.read(key % "").admin_namespaces == ()
    for value in ("root", "[Root]", "[1]", "[{a: b}]"):
        with pytest.raises(ConfigError, match="admin_namespaces"):
            host.read(key % value)


def test_a_named_file_is_read_alone(host):
    """With -c the search path is not read."""
    host.write(host.local, "server: {port: 1}\n")
    host.write(host.named, "server: {host: named}\n")
    settings = host.load(Flags({}, host.named))
    assert (settings.host, settings.port) == ("named", 9999)


def test_the_variable_wins_over_the_flag_and_says_so(host):
    """The contract's order: FS9_CONFIG beats -c; the user is told."""
    host.write(host.named, "server: {port: 1}\n")
    host.write(host.cwd / "other.yaml", "server: {port: 2}\n")
    settings = host.load(Flags({}, host.named), FS9_CONFIG="other.yaml")
    assert settings.port == 2
    assert any(str(host.named) in warning for warning in settings.warnings)


def test_the_user_file_follows_xdg(host):
    """XDG_CONFIG_HOME replaces ~/.config."""
    host.write(host.home / "xdg" / "fs9" / "fs9.yaml", "server: {port: 7}\n")
    host.write(host.user, "server: {port: 8}\n")
    assert host.load(XDG_CONFIG_HOME=str(host.home / "xdg")).port == 7


def test_the_drop_in_start_line_works(host):
    """The reference's test harness starts the server with these variables."""
    settings = host.load(
        FS9_PORT="1234",
        FS9_HOST="127.0.0.1",
        FS9_JWT_SECRET="",
        FS9_META_ENDPOINTS="",
        FS9_META_KEY="",
        FS9_SKIP_META_CHECK="1",
    )
    assert settings.port == 1234
    assert not settings.auth_enabled
    assert settings.warnings == ()


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.env], ids=lambda s: s.key)
def test_every_declared_variable_has_an_effect(host, setting):
    """A variable changes its setting, and the origin names it."""
    settings = host.load(**{setting.env: _other_value(setting)})
    assert settings.value(setting) != setting.default
    assert setting.env in settings.origin(setting)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.env], ids=lambda s: s.key)
def test_an_empty_variable_counts_as_not_set(host, setting):
    """An empty variable leaves the default."""
    assert host.load(**{setting.env: ""}).value(setting) == host.load().value(setting)


# -- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server:\n  prot: 1\n", ":2: unknown key server.prot; did you mean server.port?"),
        ("port: 1\n", ":1: unknown key port; did you mean server.port?"),
        ("log: 1\n", ":1: unknown key log"),
        ("loging:\n  level: info\n", ":1: unknown key loging; did you mean logging?"),
        ("server: 5\n", ":1: server: expected keys and values below it"),
        ("server:\n  port: abc\n", ":2: server.port: expected a whole number, got the text 'abc'"),
        ("server: {port: 1.5}\n", ":1: server.port: expected a whole number, got the number 1.5"),
        ("server: {port: true}\n", ":1: server.port: expected a whole number, got true"),
        ("server: {port: '1'}\n", ":1: server.port: expected a whole number, got the text '1'"),
        ("server: {port: }\n", ":1: server.port: expected a whole number, got nothing"),
        ("server: {port: []}\n", ":1: server.port: expected a whole number, got a list"),
        ("server: {port: 65536}\n", ": expected a whole number from 0 to 65535, got 65536"),
        ("server: {workers: 0}\n", ": expected a whole number from 1 to 1024, got 0"),
        ("server: {max_body_size_bytes: 0}\n", "a whole number of at least 1, got 0"),
        ("server: {request_timeout_secs: 0}\n", "expected seconds greater than 0, got 0"),
        ("server: {request_timeout_secs: .nan}\n", "expected seconds greater than 0, got nan"),
        ("server: {request_timeout_secs: .inf}\n", "expected seconds greater than 0, got inf"),
        ("server: {request_timeout_secs: 1s}\n", "expected a number of seconds, got the text"),
        ("server: {host: 5}\n", ":1: server.host: expected text, got the number 5; quote it"),
        ("server: {host: ''}\n", ":1: server.host is empty"),
        ("server: {auth: {jwks: ''}}\n", ":1: server.auth.jwks is empty"),
        ("server: {auth: {enabled: maybe}}\n", "expected true or false, got the text 'maybe'"),
        ("logging: {level: inof}\n", "got 'inof'; did you mean info?"),
        ("logging: {filter: a=loud}\n", ":1: logging.filter: 'loud' is no level"),
        ("data_dir: ''\n", ":1: data_dir: expected a path, got empty text"),
        ("mounts: 5\n", ":1: mounts: expected a list of path, provider, config; got the number 5"),
        ("mounts:\n- /\n", ":2: mounts: a mount has path, provider and config, got the text '/'"),
        ("mounts:\n- {path: /}\n", ":2: mounts: a mount needs provider"),
        ("mounts:\n- {path: /, provider: }\n", ":2: mounts: provider: expected text, got nothing"),
        ("mounts:\n- {path: /, provider: ''}\n", ":2: mounts: provider is empty"),
        ("mounts:\n- {path: /a/, provider: x}\n", "'/a/' must be written '/a'"),
        ("mounts:\n- {path: a, provider: x}\n", "'a' must be written '/a'"),
        ('mounts:\n- {path: "/a\\0", provider: x}\n', "cannot contain a NUL"),
        (
            "mounts:\n- {path: /, provider: x}\n- {path: /, provider: y}\n",
            ":3: mounts: / is mounted twice",
        ),
        (
            "mounts:\n- path: /\n  provider: x\n  confg: {}\n",
            ":4: mounts: a mount has no key confg; did you mean config?",
        ),
        ("mounts:\n- {path: /, provider: x, config: 5}\n", "config: expected keys and values"),
        (
            "server:\n  limits:\n    handle_sweep_interval_secs: 301\n",
            "server.limits.handle_sweep_interval_secs must not exceed"
            " server.limits.handle_ttl_secs",
        ),
    ],
)
def test_what_cannot_be_used_names_place_key_and_reason(host, text, expected):
    """A wrong key or value ends the start; the message has file, line, key, expected, got."""
    message = host.refused(text)
    assert expected in message
    if expected.startswith(":"):
        assert message.startswith(f"{host.local}:")


@pytest.mark.parametrize("key", RESERVED_KEYS)
def test_a_reserved_key_is_refused_with_its_reason(host, key):
    """Keys of features that do not exist are refused, so that nobody relies on them."""
    nested = "{a: 1}"
    for name in reversed(key.split(".")):
        nested = f"{{{name}: {nested}}}"
    message = host.refused(nested)
    assert key in message
    assert "not available in this version" in message or "not part of this system" in message


@pytest.mark.parametrize("name", RESERVED_VARIABLES)
def test_a_reserved_variable_is_refused_unless_empty(host, name):
    """The environment is held to the same rule; an empty variable says nothing."""
    assert host.load(**{name: ""}) == host.load()
    with pytest.raises(ConfigError, match=name):
        host.load(**{name: "x"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FS9_PORT", "abc", "environment variable FS9_PORT: server.port: expected a whole"),
        ("FS9_WORKERS", "0", "environment variable FS9_WORKERS: server.workers: expected"),
        ("FS9_LOG_LEVEL", "loud", "environment variable FS9_LOG_LEVEL: logging.level: expected"),
    ],
)
def test_a_wrong_variable_is_refused(host, name, value, expected):
    """A variable that cannot be used is named; it is never ignored."""
    with pytest.raises(ConfigError, match=expected):
        host.load(**{name: value})


def test_a_wrong_flag_is_refused(host):
    """A flag that cannot be used is named."""
    with pytest.raises(ConfigError, match=r"flag --port: server\.port: expected a whole"):
        host.load(Flags({"server.port": "x"}))


def test_a_missing_named_file_is_an_error(host):
    """A file that the user named must be there, by flag and by variable."""
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read: No such file"):
        host.load(Flags({}, Path("no.yaml")))
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read: No such file"):
        host.load(FS9_CONFIG="no.yaml")


def test_an_unreadable_file_is_an_error(host):
    """A directory, or bytes that are not UTF-8, on the search path end the start."""
    host.local.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        host.load()
    host.local.rmdir()
    host.local.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 3"):
        host.load()


# -- Values ---------------------------------------------------------------------------------


def test_a_variable_in_a_file_becomes_the_settings_type(host):
    """`${NAME}` fits numbers, also between quotes, and texts that look like numbers."""
    settings = host.read(
        'server: {port: "${P}", host: "${H:-::1}", auth: {jwt_secret: "${S}"}}\n',
        P="81",
        S="12345678901234567890123456789012",
    )
    assert (settings.port, settings.host) == (81, "::1")
    assert settings.jwt_secret == "12345678901234567890123456789012"
    assert (
        host.read("server: {auth: {jwt_secret: ${S}}}\n".replace("${S}", "'7'")).jwt_secret == "7"
    )


def test_the_data_directory_is_absolute(host):
    """Relative to the working directory; `~` is the home directory."""
    assert host.read("data_dir: d\n").data_dir == host.cwd / "d"
    assert host.read("data_dir: ~/d\n").data_dir == host.home / "d"
    assert host.read("data_dir: /d\n").data_dir == Path("/d")


def test_an_address_in_brackets_is_the_address(host):
    """IPv6 addresses are written in brackets in URLs; sockets want them without."""
    assert host.load(FS9_HOST="[::1]").host == "::1"


def test_an_optional_setting_can_be_unset_by_a_nearer_file(host):
    """An empty value takes the issuer back."""
    host.write(host.system, "server: {auth: {issuer: a, audience: b}}\n")
    settings = host.read("server: {auth: {issuer: }}\n")
    assert (settings.token_issuer, settings.token_audience) == (None, "b")


def test_mounts_keep_their_config(host):
    """A provider's config is passed on as YAML has it."""
    settings = host.read(
        "mounts:\n- path: /\n  provider: x\n  config: {a: [1, {b: '${V}'}]}\n", V="2"
    )
    assert settings.mounts == (MountSpec("/", "x", {"a": [1, {"b": "2"}]}),)


def test_an_empty_list_of_mounts_is_possible(host):
    """`mounts: []`, or no value: the namespace has no mounts."""
    assert host.read("mounts: []\n").mounts == host.read("mounts:\n").mounts == ()


def test_every_limit_is_a_setting():
    """Nothing in Limits is out of an operator's reach."""
    assert {setting.field for setting in LIMIT_SETTINGS} == set(Limits.__slots__)


def test_settings_travel_to_workers(host):
    """Settings can be pickled, and are the same afterwards."""
    settings = host.read("server: {port: 1}\n")
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.origins == settings.origins


# -- Authentication and exposure ------------------------------------------------------------


def test_a_secret_turns_authentication_on(host):
    """From the environment or a file, and also against `enabled: false`, with a warning."""
    assert host.load(FS9_JWT_SECRET=LONG_SECRET).auth_enabled
    assert host.read(f"server: {{auth: {{jwt_secret: {LONG_SECRET}}}}}\n").auth_enabled
    settings = host.read(f"server: {{auth: {{enabled: false, jwt_secret: {LONG_SECRET}}}}}\n")
    assert settings.auth_enabled
    assert any("authentication is on all the same" in text for text in settings.warnings)
    assert Settings(jwt_secret="x").auth_enabled


def test_authentication_without_a_secret_is_refused(host):
    """A random secret per process would not work in a fleet; the message says how to make one."""
    message = host.refused("server: {auth: {enabled: true}}\n")
    assert "openssl rand -hex 32" in message
    assert "FS9_JWT_SECRET" in message


def test_an_empty_variable_overrides_the_secret_with_a_warning(host):
    """The contract's rule, which can turn authentication off: it must not happen in silence."""
    text = f"server: {{auth: {{jwt_secret: {LONG_SECRET}}}}}\n"
    settings = host.read(text, FS9_JWT_SECRET="")
    assert not settings.auth_enabled
    assert any("FS9_JWT_SECRET is empty" in warning for warning in settings.warnings)


def test_a_short_secret_is_accepted_with_one_warning(host):
    """Clients and tests use short secrets; operators are told."""
    settings = host.load(FS9_JWT_SECRET="test-secret")
    assert [warning for warning in settings.warnings if "shorter than 32 bytes" in warning]
    assert not any("test-secret" in warning for warning in settings.warnings)


def test_a_secret_in_a_file_for_all_to_read_is_reported(host):
    """A secret written into a world-readable file is no secret; one from a variable is."""
    host.write(host.local, f"server: {{auth: {{jwt_secret: {LONG_SECRET}}}}}\n")
    assert host.load().warnings == ()
    host.local.chmod(0o644)
    assert any("every user can read it" in warning for warning in host.load().warnings)
    host.write(host.local, "server: {auth: {jwt_secret: '${S}'}}\n")
    host.local.chmod(0o644)
    assert host.load(S=LONG_SECRET).warnings == ()


def test_a_secret_is_in_no_message_and_no_repr(host):
    """Neither errors nor the settings' own text show it."""
    message = host.refused("server: {auth: {jwt_secret: [hunter2hunter2]}}\n")
    assert "hunter2" not in message
    message = host.refused("server: {auth: {jwt_secret: 4711471147114711}}\n")
    assert "4711" not in message
    host.local.unlink()
    assert LONG_SECRET not in repr(host.load(FS9_JWT_SECRET=LONG_SECRET))


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST.", "a.localhost"]
)
def test_loopback_may_be_open(name):
    """Only this host reaches it, so no authentication is needed."""
    assert is_loopback(name)
    check_exposure(Settings(host=name))


@pytest.mark.parametrize(
    "name", ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.com", "localhost.example.com"]
)
def test_other_hosts_need_authentication(name):
    """Refused with an explanation, unless there is authentication or --insecure."""
    with pytest.raises(ConfigError, match=r"refusing to listen on .*--insecure"):
        check_exposure(Settings(host=name))
    check_exposure(Settings(host=name, insecure=True))
    check_exposure(Settings(host=name, jwt_secret="x"))


def test_insecure_comes_from_the_flag_alone(host):
    """No file can say it."""
    assert host.load(Flags({}, insecure=True)).insecure
    assert "unknown key insecure" in host.refused("insecure: true\n")
