"""The page docs/scale.md, from the figures of `benchmarks.scale`.

python -m benchmarks.scale_page
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.scale import METRICS, OF_MEMBER, RESULTS
from docs.result_pages import wrapped

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"

TEXT = """# Scale

What it costs to run jobs on [one machine's pool or on Ray](how-to/cluster.md), measured by `python -m benchmarks.scale`
([figures](../benchmarks/results/scale.json)), and what follows for 10,000 trainings on 100 machines, which nobody has
run. `python -m benchmarks.scale_page` makes this page from the figures.

All is from one machine with {cores} shared cores, whose load was {load}; Ray had two nodes with one core and an address
each. Such a machine is noisy: ratios and processor times count for more than times.

## Executors

| | pool | Ray, two nodes |
|---|---:|---:|
| join a cluster that runs | | {ray[join]:.1f} s |
| first job done | {pool[first_job]:.1f} s | {ray[first_job]:.1f} s |
| each job, beside its work | {pool_each} | {ray_each} |
| speed-up by a second worker, jobs that wait | {pool[speed_up_waiting]:.2f} | {ray[speed_up_waiting]:.2f} |
| jobs that compute | {pool[speed_up_computing]:.2f} | {ray[speed_up_computing]:.2f} |
| messages of jobs taken | | {ray[messages_per_second]:,.0f} a second |

A new worker imports torch and MLflow for its first job of a study; these jobs need neither.

## One member of a study

A default pi0 trained for {training[seconds][training]:.0f} s, and was evaluated for
{training[seconds][evaluation]:.0f} s on {of_member} episodes in each of nine conditions. The calls to MLflow were
{calls}: {kinds}. Metrics wait for each other up to five seconds, so a longer training makes one call more each five
seconds. It wrote {snapshots} snapshots of {snapshot_mb:.1f} MB, which Ray's workers send to the driver, and left files
of {files_mb:.1f} MB.

## MLflow's server

`mlflow server` with two workers and an sqlite store, {metrics} values in each call of `log_batch`:

| clients at once | calls a second | processor time of the server for a call |
|---:|---:|---:|
{server}

PostgreSQL, which `make server` has, was not measured.

## A large evaluation

`evaluate --out` with scores that are drawn, not simulated, so that the driver has as much to do as can be:

| rows | seconds | peak memory of the driver | file |
|---:|---:|---:|---:|
{memory}

## 10,000 trainings on 100 machines

Reckoned for machines like this one: {reckoned[at_once]} members at a time, {reckoned[seconds_of_a_member]:.0f} s each
with the 1,000 episodes in each condition of a study.

| | needed | there is |
|---|---:|---:|
| time | {reckoned[hours]:.1f} h | |
| the driver gives the jobs | {reckoned[seconds_to_give_the_jobs]:.0f} s in all | |
| messages of jobs to the driver | {reckoned[messages_per_second]:.0f} a second | {ray[messages_per_second]:,.0f} |
| snapshots to the driver | {snapshots_mb:.1f} MB a second | its network and disk |
| calls to MLflow | {reckoned[calls_per_second]:.1f} a second | {one_core:.0f} for each core of the server |
| files in the store | {reckoned[store_gib]:.1f} GiB | |

{first} breaks first: of what was measured it has the least to spare. One core of MLflow's server serves {members:.0f}
members at once, by the calls alone; artifacts go through it too. Trainings do not wait for it: what it does not take in
three seconds waits on the worker's disk and is sent again. Give it more workers and PostgreSQL.

Not measured, and next: the study's own queries, which list all of its runs before each round of jobs and each time that
a job fails; the report, which reads a file of every model; and the driver itself, which is one process on one machine.
"""


def milliseconds(seconds: float) -> str:
    """A time that is a difference of two measured ones, so it may come out below nothing."""
    return f"{1000 * seconds:.1f} ms" if seconds > 0.0001 else "less than 0.1 ms"


def render(found: dict[str, Any]) -> str:
    """Return the page; raises `KeyError` if a part was not measured."""
    executors, training = found["executors"]["figures"], found["training"]["figures"]
    reckoned = found["reckoned"]
    loads = [each for part in found.values() if isinstance(part, dict) and "load" in part for each in part["load"]]
    server = reckoned["calls_per_second"] / reckoned["calls_that_one_core_of_the_server_takes"]
    driver = reckoned["messages_per_second"] / reckoned["messages_that_are_taken"]
    text = TEXT.format(
        first="MLflow's server" if server > driver else "The driver",
        cores=found["cores"],
        load=f"{min(loads):.0f} to {max(loads):.0f}",
        pool=executors["pool"],
        ray=executors["ray"],
        pool_each=milliseconds(executors["pool"]["each_job"]),
        ray_each=milliseconds(executors["ray"]["each_job"]),
        training=training,
        of_member=OF_MEMBER,
        calls=sum(training["calls"].values()),
        kinds=", ".join(f"{count} of the kind `{kind}`" for kind, count in training["calls"].items()),
        snapshots=len(training["snapshots"]),
        snapshot_mb=training["snapshots"][-1] / 1e6,
        files_mb=sum(training["bytes"].values()) / 1e6,
        metrics=METRICS,
        server="\n".join(
            f"| {clients} | {each['per_second']:.0f} | {each['server_ms_each']:.0f} ms |"
            for clients, each in found["log_batch"]["figures"].items()
        ),
        memory="\n".join(
            f"| {each['rows']:,} | {each['seconds']:.0f} | {each['peak_mib']:.0f} MiB | {each['file_mib']:.0f} MiB |"
            for each in found["evaluation"]["figures"]
        ),
        reckoned=reckoned,
        snapshots_mb=reckoned["snapshot_bytes_per_second"] / 1e6,
        one_core=reckoned["calls_that_one_core_of_the_server_takes"],
        members=reckoned["members_at_once_of_one_core_of_the_server"],
    )
    parts = text.strip().split("\n\n")
    return "\n\n".join(part if part[0] in "|#" else wrapped(part) for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(json.loads(RESULTS.read_text())))
