#!/usr/bin/python3
"""Measures r2shim beside its peers on this machine, prints tables, and rewrites the marked parts of docs/performance.md.

Run it as scripts/bench, which installs what is missing and builds. Everything runs on loopback, on free ports, in temporary
folders, and is gone at the end, also after Ctrl-C.
"""
import argparse
import json
import signal
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "system")]

import harness  # noqa: E402
import bench_backfill  # noqa: E402
import bench_proxy  # noqa: E402
import bench_soak  # noqa: E402
import bench_upload  # noqa: E402
import bench_watch  # noqa: E402
import report  # noqa: E402

PARTS = {"proxy": (bench_proxy.run, report.proxy_text), "backfill": (bench_backfill.run, report.backfill_text),
         "upload": (bench_upload.run, report.upload_text), "watch": (bench_watch.run, report.watch_text),
         "soak": (bench_soak.run, report.soak_text)}
MISSED = {"proxy": bench_proxy.missed, "upload": bench_upload.missed, "soak": bench_soak.missed}		# of the parts that have targets
DOCS = harness.TOP / "docs" / "performance.md"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of each measurement (default 3)")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="of load in a round of the parts proxy and upload (default 2)")
    parser.add_argument("--files", type=int, default=bench_backfill.FILES, metavar="N",
                        help=f"files of the backfill's part (default {bench_backfill.FILES})")
    parser.add_argument("--minutes", type=float, default=10, metavar="M", help="of the soak (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, of each round, as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target of proxy, upload or soak is missed; the others have none here")
    parser.add_argument("--full", action="store_true", help="of the part proxy: 1, 64 and 512 connections, and files of 100 MB")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/performance.md as it is")
    options = parser.parse_args()
    if min(options.rounds, options.seconds, options.files) < 1:
        parser.error("--rounds, --seconds and --files begin at 1")
    return options


def interrupted(number, frame):
    """The first one ends it; the cleaning up is not disturbed by a second."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main():
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    binary = harness.binary()
    if binary is None:
        sys.exit("bench: no r2shim binary: run scripts/bench, or set R2SHIM_BIN")
    found, missed, env = {}, [], report.environment(options, binary)
    try:
        for part in PARTS if options.part == "all" else [options.part]:
            run, text_of = PARTS[part]
            result = run(options)
            found[part] = {"environment": env, "result": result}
            text = text_of(env, result)
            print(f"\n{text}\n", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            if not options.no_docs:
                report.rewrite(DOCS, part, text)
            missed += MISSED[part](result) if part in MISSED else []
    except (RuntimeError, AssertionError) as e:
        sys.exit(f"\nbench: {e}")
    finally:
        harness.stop_all()
    for line in missed:
        print(f"missed: {line}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
