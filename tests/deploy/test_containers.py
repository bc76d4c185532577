"""deploy/Dockerfile and deploy/compose.yaml: nothing runs as root, and what they name exists."""

from __future__ import annotations

import re
import shlex

import yaml

from tests.arch.tree import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("RUN ")


def test_what_is_copied_into_the_image_exists() -> None:
    copied = [
        name
        for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE)
        for name in shlex.split(line)[:-1]
    ]
    assert {"fs9", "router", "workers"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)


def test_images_have_versions() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images += [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    assert all(re.search(r":\d", image) for image in images)


def test_the_services_can_do_no_more_than_they_must() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_nginx_runs_as_the_user_whose_the_sockets_are_and_finds_its_files() -> None:
    """The user of the image; the paths of the example's configuration."""
    nginx, fs9 = COMPOSE["services"]["nginx"], COMPOSE["services"]["fs9"]
    assert f"USER {nginx['user']}\n" in DOCKERFILE
    assert fs9["volumes"][0] == nginx["volumes"][0] == "data:/var/lib/fs9"
    config = (ROOT / "deploy" / "nginx" / "fs9.conf").read_text()
    assert "unix:/var/lib/fs9/run/slot-0.front" in config
    mounted = [volume.split(":")[1] for volume in nginx["volumes"]] + [
        volume.split(":")[0] for volume in nginx["tmpfs"]
    ]
    for path in re.findall(r"(?:pid|error_log|access_log|js_import fs9 from) (/[^\s;]+)", config):
        assert any(path.startswith(f"{directory}/") for directory in mounted), path
    for volume in (*nginx["volumes"], *fs9["volumes"]):
        if volume.startswith("./"):
            assert (ROOT / "deploy" / volume.split(":")[0]).exists()
