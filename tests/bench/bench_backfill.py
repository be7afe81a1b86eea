"""Small files to R2: our migrator beside rclone, into a sandbox that hashes and drops what it gets. Then both again, with
nothing left to do."""
import random
import time

import measure
import peers
from harness import clean_env, eventually, temp_dir
from s3 import Bucket

FILES = 20000
SMALLEST, LARGEST = 4000, 40000
AT_ONCE = 32
FOLDER = 200		# files in a folder
LIMIT = 300		# seconds that a pass may take


def corpus(root, files):
    """The files, from a seed; their bytes in all."""
    draw, total = random.Random(20000), 0
    for number in range(files):
        folder = root / f"{number // FOLDER:04d}"
        if number % FOLDER == 0:
            folder.mkdir(parents=True)
        content = draw.randbytes(draw.randint(SMALLEST, LARGEST))
        (folder / f"{number:06d}.bin").write_bytes(content)
        total += len(content)
    return total


def check(sandbox, files, who):
    """Whoever copied, everything is there."""
    keys = Bucket(sandbox.endpoint, sandbox.bucket, sandbox.key_id, sandbox.secret).list()
    found = sum(not key.startswith(".r2shim") for key in keys)
    if found != files:
        raise RuntimeError(f"{who}: {found} objects of {files} files")


def backfill(stack, files):
    """One run of the backfill, from the command to the state "complete"; CPU of the migrator, and of Redis beside it."""
    migrator, redis = stack.migrators[0].pid, stack.redis.pid
    cpu, redis_cpu, began = measure.cpu_seconds(migrator), measure.cpu_seconds(redis), time.monotonic()
    stack.proxy.run("backfill", "start", check=True)
    eventually(lambda: stack.proxy.status()["backfill"]["state"] == "complete", LIMIT, "backfill complete", 0.05)
    seconds = time.monotonic() - began
    status = stack.proxy.status()
    if status["queue"]["dead"] or status["backfill"]["failed"]:
        raise RuntimeError(f"backfill: {status}")
    return {"seconds": seconds, "cpu": measure.cpu_seconds(migrator) - cpu, "redis_cpu": measure.cpu_seconds(redis) - redis_cpu,
            "rss": measure.peak_rss(migrator), "copied": status["backfill"]["copied"]}


def ours(media, files):
    """{first, again} of r2shim."""
    stack = peers.BenchStack(media, peers.Sink, migrator=f"concurrency = {AT_ONCE};", lease="10s", request_limit="10s")
    stack.start()
    waive = ["--waive", "preflight", "--reason", "the sink gives nothing back"]
    for phase, waived in (("dual-write", waive), ("backfill", [])):
        stack.proxy.run("phase", "set", phase, *waived, check=True)
        stack.proxy.wait_phase(phase)
    eventually(lambda: not stack.proxy.status()["census"]["due"], 60, "the census that follows passthrough", 0.1)
    eventually(lambda: [proxy["phase"] for proxy in stack.proxy.status()["proxies"]] == ["backfill"], 30, "its heartbeat")
    first = backfill(stack, files)
    check(stack.sandbox, files, "r2shim")
    again = backfill(stack, files)
    stack.stop()
    return {"first": first, "again": again}


def rclone(media, files):
    """{first, again, digests} of rclone; by default it compares size and time, with --checksum size and digest."""
    folder = temp_dir("r2shim-bench-")
    sandbox = peers.Sink(folder / "r2").start()
    env = clean_env(RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_R2_TYPE="s3", RCLONE_CONFIG_R2_PROVIDER="Other",
                    RCLONE_CONFIG_R2_ENDPOINT=sandbox.endpoint, RCLONE_CONFIG_R2_REGION="auto",
                    RCLONE_CONFIG_R2_ACCESS_KEY_ID=sandbox.key_id, RCLONE_CONFIG_R2_SECRET_ACCESS_KEY=sandbox.secret, HOME=folder)
    copy = ["/usr/bin/rclone", "copy", "--transfers", AT_ONCE, "--checkers", AT_ONCE, "--exclude", "/.r2shim*", media,
            f"r2:{sandbox.bucket}"]
    first = measure.client(copy, LIMIT, env, folder)
    check(sandbox, files, "rclone")
    result = {"first": first, "again": measure.client(copy, LIMIT, env, folder),
              "digests": measure.client([*copy, "--checksum"], LIMIT, env, folder)}
    sandbox.stop()
    return result


def summary(runs, files):
    seconds = measure.median([run["seconds"] for run in runs])
    row = {"files_s": files / seconds, "seconds": seconds, "cpu_ms": measure.median([run["cpu"] for run in runs]) * 1000 / files,
           "rss": max(run["rss"] for run in runs), "rounds": runs}
    if "redis_cpu" in runs[0]:
        row["redis_ms"] = measure.median([run["redis_cpu"] for run in runs]) * 1000 / files
    return row


def run(options):
    media = temp_dir("r2shim-bench-") / "media"
    measure.progress(f"backfill: making {options.files} files")
    total = corpus(media, options.files)
    runs = {"r2shim": [], "rclone": []}
    for turn in range(options.rounds):
        for name, work in (("r2shim", ours), ("rclone", rclone)):
            measure.progress(f"backfill: round {turn + 1} of {options.rounds}, {name}")
            runs[name].append(work(media, options.files))
    measure.progress()
    result = {"files": options.files, "bytes": total, "at_once": AT_ONCE}
    for name, of in runs.items():
        result[name] = {part: summary([one[part] for one in of], options.files) for part in of[0]}
    return result
