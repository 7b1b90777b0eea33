"""What it costs to run jobs on the pool and on Ray, what a tracking server takes, and the memory of a large evaluation.

    python -m benchmarks.scale

Everything runs on this machine: Ray's two nodes have one core each, and addresses of their own. Prints the figures and
writes benchmarks/results/scale.json; docs/scale.md reckons with them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli.console import OUT
from pipeline.executors import on_ray, pool
from pipeline.executors.cluster import joining
from pipeline.executors.jobs import Done, Job, Report
from pipeline.files import whole_file
from pipeline.names import TRAIN_SECONDS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "scale.json"
FEW, MANY = 50, 300  # jobs: the time for one is a difference, without the start
WORK_SECONDS, WORKED = 1.0, 8  # of processor time, and jobs: those of each half are shared evenly by two workers
CALLS, METRICS, CLIENTS = 25, 30, (1, 4, 16)  # log_batch: calls of each client, values in a call, clients at once
MESSAGES = 3000
TRAININGS, MACHINES = 10_000, 100
OF_MEMBER, OF_STUDY = 100, 1000  # episodes for each condition: measured here, and of a study
EPISODES = (20_000, 200_000)  # for each of nine conditions


def nothing(report: Report) -> int:
    """A job that is done at once."""
    return 0


def sleep(report: Report) -> int:
    """A job that needs no processor."""
    time.sleep(WORK_SECONDS)
    return 0


def work(report: Report) -> int:
    """A job of so much processor time, however busy the machine is."""
    end = time.process_time() + WORK_SECONDS
    while time.process_time() < end:
        np.linalg.svd(np.ones((40, 40)))
    return 0


def seconds_of(run: Callable[..., Any], task: Callable[[Report], int], count: int, workers: int) -> list[float]:
    """The seconds until the first, the second, ... of so many jobs is done."""
    begun = time.perf_counter()
    events = run([Job(str(number), "x", task) for number in range(count)], workers)
    return [time.perf_counter() - begun for event in events if isinstance(event, Done)]


def measure_jobs(run: Callable[..., Any]) -> dict[str, float]:
    """Seconds for each job that does nothing, and how many times faster two workers are than one.

    The latter by the second half of the jobs: workers start during the first.
    """
    few, many = (seconds_of(run, nothing, count, 2) for count in (FEW, MANY))
    found = {"first_job": few[0], "each_job": (many[-1] - few[-1]) / (MANY - FEW)}
    for name, task in (("waiting", sleep), ("computing", work)):
        done = [seconds_of(run, task, WORKED, workers) for workers in (1, 2)]
        alone, both = (each[-1] - each[WORKED // 2 - 1] for each in done)
        found[f"speed_up_{name}"] = alone / both
    return found


def measure_executors() -> dict[str, dict[str, float]]:
    """The same on the pool and on two nodes of Ray."""
    from tests.nodes import nodes

    found = {"pool": measure_jobs(pool.run_jobs)}
    os.environ["PYTHONPATH"] = str(ROOT)  # for the functions of this file
    with nodes() as cluster:
        begun = time.perf_counter()
        with joining(cluster.address, 0, shares=False, environment={}):
            found["ray"] = {"join": time.perf_counter() - begun, **measure_jobs(on_ray.run_jobs)}
            found["ray"]["messages_per_second"] = measure_messages()
    return found


def measure_messages() -> float:
    """How many messages of jobs the actor that takes them answers in a second."""
    import ray

    mailbox: Any = ray.remote(on_ray.Mailbox).options(num_cpus=0).remote()
    ray.get(mailbox.expect.remote((0, 1)))
    begun = time.perf_counter()
    ray.get([mailbox.put.remote((0, 1), 0.5, {}) for _ in range(MESSAGES)])
    return MESSAGES / (time.perf_counter() - begun)


def measure_server() -> dict[str, Any]:
    """The calls of log_batch that an `mlflow server` with an sqlite store takes, by the number of clients.

    Calls in a second, and the server's own processor time for one call, which a busy machine does not change.
    """
    import psutil
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
        words += ["--backend-store-uri", f"sqlite:///{name}/mlflow.db", "--artifacts-destination", f"{name}/artifacts"]
        process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            client = _connected(lambda: MlflowClient(f"http://127.0.0.1:{port}"))

            def used() -> float:
                each = psutil.Process(process.pid)
                return sum(sum(one.cpu_times()[:2]) for one in (each, *each.children(True)))

            found: dict[str, Any] = {}
            for clients in (max(CLIENTS), *CLIENTS):  # the first time only wakes the server's workers
                runs = [client.create_run("0").info.run_id for _ in range(clients)]

                def log(run_id: str) -> None:
                    for step in range(CALLS):
                        metrics = [
                            Metric(f"m{number}", step, int(time.time() * 1000), step) for number in range(METRICS)
                        ]
                        client.log_batch(run_id, metrics=metrics)

                begun, before, calls = time.perf_counter(), used(), clients * CALLS
                with ThreadPoolExecutor(clients) as threads:
                    list(threads.map(log, runs))
                seconds, spent = time.perf_counter() - begun, used() - before
                found[str(clients)] = {"per_second": calls / seconds, "server_ms_each": 1000 * spent / calls}
            return {str(clients): found[str(clients)] for clients in CLIENTS}
        finally:
            process.terminate()
            process.wait()


def _connected(connect: Callable[[], Any]) -> Any:
    for _ in range(120):
        try:
            client = connect()
            client.search_experiments()
            return client
        except Exception:
            time.sleep(1)
    raise TimeoutError("the server does not answer")


def count_calls() -> dict[str, Any]:
    """The calls to MLflow that a training of a member makes, and its evaluation, in a store of its own."""
    from pipeline.evaluation.protocol import Protocol
    from pipeline.methods.registry import METHODS
    from pipeline.methods.settings import Pi0Settings
    from pipeline.stages import account
    from pipeline.stages.judging import EvaluationSpec, judge_run
    from pipeline.stages.train import train
    from pipeline.tracking import run
    from pipeline.tracking.delivery import deliver
    from pipeline.training.snapshots import save_snapshot

    calls: Counter[str] = Counter()

    def counted(client: Any, run_id: str, item: Any) -> None:
        calls[item["what"]] += 1
        deliver(client, run_id, item)

    snapshots: list[int] = []

    def weighed(path: Path, snapshot: Any) -> None:
        save_snapshot(path, snapshot)
        snapshots.append(path.stat().st_size)

    vars(run)["deliver"], vars(account)["save_snapshot"] = counted, weighed  # what these modules call by these names
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        made = train(METHODS["pi0"], Pi0Settings(), lambda line: None, lambda step: None)
        before = time.perf_counter()
        judge_run(
            made.run_id, EvaluationSpec("pendulum", Protocol(OF_MEMBER, 0), Pi0Settings().pairs), lambda share: None
        )
        seconds = {"training": made.metrics[TRAIN_SECONDS], "evaluation": time.perf_counter() - before}
        sizes = {path.suffix: path.stat().st_size for path in Path("train").rglob("*.*")}
        os.chdir(ROOT)
    return {"calls": dict(calls), "seconds": seconds, "bytes": sizes, "snapshots": snapshots}


def drawn(spec: Any, report: Report) -> Any:
    """Episodes with scores that are drawn, not simulated: what the one who gave the job gets is the same."""
    from pipeline.evaluation.control import Evaluation
    from pipeline.stages.judging import Judged
    from pipeline.tasks.registry import find_task

    task = find_task(spec.task)
    generator = np.random.default_rng(spec.block.first)
    columns = {name: generator.random(spec.block.count) for name in task.scores}
    return Judged("drawn", "pi0", Evaluation(task.scores, (task.conditions[spec.block.condition],), columns))


def stream_drawn(episodes: int) -> None:
    """In a process of its own: stream so many episodes through the pool, and print the peak of its memory."""
    from pipeline.evaluation.protocol import Protocol
    from pipeline.stages.evaluate import Candidate
    from pipeline.stages.evaluate_to_file import stream
    from pipeline.stages.judging import EvaluationSpec
    from pipeline.stages.settings import EvaluateSettings

    with tempfile.TemporaryDirectory() as name:
        settings = EvaluateSettings(episodes=episodes, out=f"{name}/episodes.parquet")
        spec = EvaluationSpec("pendulum", Protocol(episodes, 0), Path("none"))
        begun = time.perf_counter()
        stream(settings, [Candidate("drawn", "pi0", drawn)], spec, lambda event: None)
        print(
            json.dumps(
                {
                    "rows": 9 * episodes,
                    "seconds": time.perf_counter() - begun,
                    "peak_mib": peak_mib(),
                    "file_mib": Path(settings.out).stat().st_size / 2**20,
                }
            )
        )


def peak_mib() -> float:
    """The peak memory of this process; its `ru_maxrss` would count what its parent had when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measure_memory() -> list[dict[str, float]]:
    """The peak memory of the process that gives the jobs, for two sizes."""
    code = "import sys; from benchmarks.scale import stream_drawn; stream_drawn(int(sys.argv[1]))"
    found = []
    for episodes in EPISODES:
        words = [sys.executable, "-c", code, str(episodes)]
        result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        found.append(json.loads(result.stdout))
    return found


def reckon(found: dict[str, Any]) -> dict[str, float]:
    """What the figures give for `TRAININGS` members of a study on `MACHINES` with as many cores as this one."""
    member, ray = found["training"]["figures"], found["executors"]["figures"]["ray"]
    at_once = MACHINES * found["cores"]
    seconds = member["seconds"]["training"] + member["seconds"]["evaluation"] * OF_STUDY / OF_MEMBER
    calls = sum(member["calls"].values())
    server = 1000 / min(each["server_ms_each"] for each in found["log_batch"]["figures"].values())
    return {
        "at_once": at_once,
        "seconds_of_a_member": seconds,
        "hours": TRAININGS * seconds / at_once / 3600,
        "seconds_to_give_the_jobs": TRAININGS * ray["each_job"],
        "calls_per_second": at_once * calls / seconds,
        "calls_that_one_core_of_the_server_takes": server,
        "members_at_once_of_one_core_of_the_server": server * seconds / calls,
        "messages_per_second": at_once / on_ray.SEND_SECONDS,
        "messages_that_are_taken": ray["messages_per_second"],
        "snapshot_bytes_per_second": at_once * sum(member["snapshots"]) / seconds,
        "store_gib": TRAININGS * sum(member["bytes"].values()) / 2**30,
    }


PARTS: dict[str, Callable[[], Any]] = {
    "executors": measure_executors,
    "log_batch": measure_server,
    "training": count_calls,
    "evaluation": measure_memory,
}


def main(names: list[str]) -> None:
    """Measure all parts, or those that are named, and keep the others' figures."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and names else {}
    for name in names or PARTS:
        before = os.getloadavg()[0]
        found[name] = {"figures": PARTS[name](), "load": [round(before, 1), round(os.getloadavg()[0], 1)]}
        OUT.print(name, found[name])
    found["cores"] = pool.cores()
    if found.keys() >= PARTS.keys():
        found["reckoned"] = reckon(found)
        OUT.print("reckoned", found["reckoned"])
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
