"""Dashboards and alerts are made of metrics that exist, and each alert has its runbook."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from fs9.observe.metrics import ALL
from tests.arch.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
PROMETHEUS = ROOT / "deploy" / "prometheus"
#: The configurations of Prometheus: beside Compose, and by itself.
CONFIGS = ("compose.yml", "prometheus.yml")
PAGE = ROOT / "docs" / "operations.md"

_SELECTOR = re.compile(r"\b(fs9_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_BY = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
#: Labels that Prometheus adds to what it scrapes.
_SCRAPED = {"job", "instance"}


def known() -> dict[str, set[str]]:
    """The time series that are exposed, with their labels."""
    found: dict[str, set[str]] = {}
    for metric in ALL:
        labels = {*metric.labels, *_SCRAPED}
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = labels | {"le"}
            found |= {f"{metric.name}_{suffix}": labels for suffix in ("sum", "count")}
        else:
            found[metric.name] = labels
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every panel, variable and alert."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name}: {variable['name']}", variable["definition"]
    for name, rule in alerts().items():
        yield name, rule["expr"]


def alerts() -> dict[str, dict]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_there_is_something_to_be_tested() -> None:
    assert DASHBOARDS
    assert alerts()
    rules = {path.name for path in PROMETHEUS.glob("*.yml")} - set(CONFIGS)
    assert rules == {"alerts.yml"}, "the tests here read no other file of rules"
    assert len(list(expressions())) > 30


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    series = known()
    used = _SELECTOR.findall(expression)
    assert used, where
    labels: set[str] = set()
    for name, matchers in used:
        assert name in series, name
        labels |= series[name]
        assert set(_MATCHER.findall(matchers)) <= series[name], name
    for names in _BY.findall(expression):
        assert {name.strip() for name in names.split(",") if name.strip()} <= labels, names
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_a_counter_is_only_looked_at_as_a_rate() -> None:
    for where, expression in expressions():
        for name, _ in _SELECTOR.findall(expression):
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert re.search(rf"rate\(\s*{name}\b", expression), where


def test_every_metric_is_shown() -> None:
    """On the dashboard: what nobody sees need not be counted."""
    shown = " ".join(text for where, text in expressions() if where.startswith("fleet.json"))
    assert [metric.name for metric in ALL if metric.name not in shown] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_can_be_imported_anywhere(path) -> None:
    """The data source is a variable, and panels neither overlap nor share an id."""
    dashboard = json.loads(path.read_text())
    sources = [item for item in dashboard["templating"]["list"] if item["type"] == "datasource"]
    assert [item["name"] for item in sources] == ["datasource"]
    used = set(re.findall(r'"uid": "([^"]*)"', path.read_text())) - {dashboard["uid"]}
    assert used == {"${datasource}"}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("name", list(alerts()))
def test_each_alert_has_its_runbook(name: str) -> None:
    """A section of docs/operations.md of its own name."""
    rule = alerts()[name]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert f"\n### {name}\n" in PAGE.read_text()
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^### (Fs9\w+)$", PAGE.read_text(), re.MULTILINE)) == set(alerts())


def test_the_page_lists_every_metric() -> None:
    listed = set(re.findall(r"`(fs9_\w+)`", PAGE.read_text().partition("## Logs")[0]))
    assert listed == {metric.name for metric in ALL}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_scrape_example_loads_the_rules(name: str) -> None:
    """Of a fleet by itself, and of the one of Compose."""
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    assert config["rule_files"] == ["alerts.yml"]
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
