"""A job of Ray that has each node look around, and writes what they say into a folder.

`python -m mrd_core.runs.launchers.ray_nodes FOLDER`
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrd_core.runs.launchers.node import PATIENCE, SAID
from mrd_core.settings.command import process


def look(folder: str) -> str:
    """Return what a node says of itself, as JSON; "" where it could not look."""
    command = process("doctor", "--look", folder)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def main(folder: str) -> None:
    """Ask every node that is there, and write a file for each."""
    ray.init(address="auto", log_to_driver=False)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            only_there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0)(look).options(scheduling_strategy=only_there)
            asked[node["NodeManagerHostname"]] = task.remote(folder)
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=2 * PATIENCE)
    for host, task in asked.items():
        said = ray.get(task) if task in ready else ""
        (Path(folder) / f"{SAID}-{host}").write_text(said)
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
