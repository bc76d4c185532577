"""What is shown of the settings is plain data, and no secret is in it."""

from pathlib import Path

from fs9.config import SETTINGS, Settings
from fs9.config.masking import MASK, plain_value, shown
from fs9.types import MountSpec

BY_KEY = {setting.key: setting for setting in SETTINGS}


def test_a_secret_is_masked_and_its_absence_is_seen():
    """A secret shows as a mask, no secret as empty text."""
    setting = BY_KEY["server.auth.jwt_secret"]
    assert shown(Settings(jwt_secret="hunter2"), setting) == MASK
    assert shown(Settings(), setting) == ""


def test_secrets_in_mounts_are_masked_by_name():
    """A provider's config may hold tokens, passwords and keys, at any depth, and in URLs."""
    config = {
        "root": "/r",
        "token": "t",
        "s3": {"access_key": "a", "Secret_Key": "b", "region": "eu"},
        "list": [{"password": "p"}],
        "dsn": "postgres://user:pass@host/db",
        "monkey": 1,
    }
    assert shown(Settings(mounts=(MountSpec("/", "x", config),)), BY_KEY["mounts"]) == [
        {
            "path": "/",
            "provider": "x",
            "config": {
                "root": "/r",
                "token": MASK,
                "s3": {"access_key": MASK, "Secret_Key": MASK, "region": "eu"},
                "list": [{"password": MASK}],
                "dsn": f"postgres://user:{MASK}@host/db",
                "monkey": 1,
            },
        }
    ]


def test_the_password_of_a_dsn_is_masked():
    """Wherever it stands in it, also one that should have been quoted; nowhere in a repr."""
    cases = {
        "postgresql://u:p4ss@h/d": f"postgresql://u:{MASK}@h/d",
        "postgresql://u:p4ss@w/x@h/d": f"postgresql://u:{MASK}@h/d",
        "postgres://h/d?user=u&password=p4ss&x=1": f"postgres://h/d?user=u&password={MASK}&x=1",
        "postgres://h/d?sslpassword=p4ss": f"postgres://h/d?sslpassword={MASK}",
        "postgres://u@h/d": "postgres://u@h/d",
        "sqlite:/a/b": "sqlite:/a/b",
    }
    for dsn, masked in cases.items():
        settings = Settings(meta_dsn=dsn)
        assert shown(settings, BY_KEY["meta.dsn"]) == masked
        assert "p4ss" not in repr(settings)


def test_values_are_plain():
    """Paths are text, tuples are lists, an empty config is left out."""
    assert plain_value((Path("/a"), MountSpec("/", "memfs"), 1, None)) == [
        "/a",
        {"path": "/", "provider": "memfs"},
        1,
        None,
    ]
