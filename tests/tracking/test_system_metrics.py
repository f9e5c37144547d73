"""System metrics: what the machine did arrives at the search's run, under MLflow's own names."""

import time

from parapet.tracking import Outbox, SystemMetrics, flush
from parapet.tracking.connection import connect
from tests.tracking.tracked_story import Story


def test_samples_arrive_at_the_search_s_run(story: Story, sqlite_uri):
    machine = SystemMetrics(story.outbox, interval=0.2)
    story.begin()
    until = time.monotonic() + 60
    while len(machine._samples) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    machine.close()
    assert story.outbox.pending() == 2
    for _ in range(2):
        assert flush(story.outbox, sqlite_uri, story.experiment, story.artifact_root).kept == 0
    client, (parent,) = connect(sqlite_uri), story.parents(sqlite_uri)
    used = client.get_metric_history(parent.info.run_id, "system/system_memory_usage_percentage")
    assert len(used) >= 3 and all(0 < metric.value < 100 for metric in used)
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage",
            "system/network_receive_megabytes"} <= set(parent.data.metrics)


def test_before_a_search_began_there_is_nobody_to_tell(tmp_path):
    outbox = Outbox(tmp_path / "outbox")
    machine = SystemMetrics(outbox, interval=0.01)
    time.sleep(0.5)
    machine.close()
    assert outbox.pending() == 0
    assert not machine._thread.is_alive()
