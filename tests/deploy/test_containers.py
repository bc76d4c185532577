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
    assert all(re.search(r":v?\d+\.\d+", image) for image in images), images


def test_the_image_is_made_as_images_should_be() -> None:
    """What linters of such files ask for."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    instructions = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert not {"ADD", "MAINTAINER", "SHELL"} & set(instructions)
    assert instructions.count("CMD") <= 1
    for line in lines:
        word, _, rest = line.partition(" ")
        if word in {"CMD", "ENTRYPOINT"}:
            assert rest.startswith("["), f"not a shell's: {line}"
        if word == "WORKDIR":
            assert rest.startswith("/"), line
        if word == "RUN":
            assert not re.search(r"\b(sudo|apt|curl|wget)\b", rest), line
            assert "pip install" not in rest or "--no-cache-dir" in rest, line


def test_no_service_runs_as_root_and_no_secret_is_written_down() -> None:
    for name, service in COMPOSE["services"].items():
        user = service.get("user", "")
        assert "build" in service or re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), name
        for variable, value in service.get("environment", {}).items():
            secret = re.search("SECRET|PASSWORD|TOKEN", variable)
            assert not secret or re.match(r"\$\{\w+:\?", value), variable


def test_what_the_services_name_is_there() -> None:
    services, deploy = COMPOSE["services"], ROOT / "deploy"
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for needed, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert not healthy or needed == "fs9" or "healthcheck" in services[needed]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (deploy / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
    assert services["fs9"]["environment"]["FS9_META_DSN"].split("@")[1] == "postgres/fs9"


def test_prometheus_and_grafana_find_each_other_and_their_files() -> None:
    deploy, services = ROOT / "deploy", COMPOSE["services"]
    scraping = yaml.safe_load((deploy / "prometheus" / "compose.yml").read_text())
    assert all((deploy / "prometheus" / rules).exists() for rules in scraping["rule_files"])
    (job,) = scraping["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    example = yaml.safe_load((deploy / "fs9.yaml").read_text())["server"]
    target = f"{example['host']}:{example['port']}"
    assert job["static_configs"] == [{"targets": [target]}]
    assert services["prometheus"]["network_mode"] == "service:fs9"
    provisioning = deploy / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    assert [source["url"] for source in sources["datasources"]] == ["http://fs9:9090"]
    boards = yaml.safe_load((provisioning / "dashboards" / "fs9.yml").read_text())
    (provider,) = boards["providers"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/fleet.json" in mounted


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
