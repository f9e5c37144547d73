"""Files for Kubeflow: pipelines/cluster.yaml and pipelines/schedules.yaml."""

from __future__ import annotations

import dataclasses
import json
import random
from datetime import UTC, datetime
from typing import Any

from parapet.config import parse, to_dict
from pipelines import resources, schedule
from tests.fuzz.mutations import twisted
from tests.fuzz.part import demand
from tests.fuzz.texts import ROOT, _Files, check_ranges


class Cluster(_Files):
    """What each step asks of a cluster."""

    def valid(self) -> list[bytes]:
        return [(ROOT / "pipelines/cluster.yaml").read_bytes(),
                json.dumps(to_dict(resources.Resources()), indent=1).encode(),
                json.dumps({"secrets": [{"name": "mlflow-client", "variables": {"A": "b"}}], "layout": {"batch": 4},
                            "tolerations": [{"key": "a", "operator": "Equal", "value": "b"}], "queue": "q"}).encode()]

    def twist(self, chance: random.Random, value: Any) -> Any:
        if chance.random() < 0.6 and isinstance(value, dict):
            name = chance.choice(list(value))
            value = {name: value[name]}
        return twisted(chance, value)

    def check(self, content: bytes) -> None:
        found = resources.load(self.put("cluster.yaml", content))
        demand(parse(resources.Resources, to_dict(found)) == found, "resources do not come back from their own dict")
        check_ranges(found)
        found.workspace_config()


class Schedules(_Files):
    """Recurring runs."""

    def valid(self) -> list[bytes]:
        entry = {"name": "nightly", "cron": "0 2 * * *", "image": "host/name@sha256:" + "0" * 64, "enabled": False}
        return [(ROOT / "pipelines/schedules.yaml").read_bytes(), json.dumps([entry]).encode(),
                json.dumps([{**entry, "name": "gate", "cron": "30 0 2 1-5 * MON", "pipeline": "promote",
                             "assembled": "minio://a/b"}, entry], indent=1).encode()]

    def twist(self, chance: random.Random, value: Any) -> Any:
        if chance.random() < 0.4:
            fields = chance.choices(("*", "0", "1", "59", "60", "*/5", "1-5", "L", "LW", "1#2", "MON", "JAN", "?",
                                     "31", "7",
                                     "1,2", "-1", "99999", "*/0", "x", "2/", "W", "29"), k=chance.choice((5, 5, 5,
                                                                                                          6, 6, 4, 7)))
            return [{**value[0], "cron": " ".join(fields)}]
        return twisted(chance, value)

    def check(self, content: bytes) -> None:
        entries = schedule.read(self.put("schedules.yaml", content))
        for entry in entries:
            check_ranges(entry)
            demand(parse(schedule.Entry, dataclasses.asdict(entry)) == entry, "an entry does not come back")
            times = entry.next_times(datetime.now(UTC))
            demand(times == sorted(times) and len(entry.kubeflow_cron.split()) == 6, f"the times of {entry.cron}")
