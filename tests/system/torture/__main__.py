#!/usr/bin/python3
"""Torture: tries to break the promises of docs/protocol.md at every step, and checks them against an independent record.

Without --kills and --netns: every step of every way to write, hit by every fault (steps). --kills N: kill -9 of proxy, migrator, Redis,
gunicorn and sandbox, N times each, under load. --netns: proxies in neighbouring phases, one of them cut off from Redis, R2, both.
Exit code 1 if a promise was broken. Ctrl-C ends a run early, with the report of what was done until then.
"""
import argparse
import os
import random
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from torture import netns  # noqa: E402
from torture.kills import run_kills  # noqa: E402
from torture.report import Report  # noqa: E402
from torture.scenarios import SCENARIOS  # noqa: E402
from torture.site import PHASES  # noqa: E402
from torture.steps import run_steps  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__.partition("\n\n")[0],
                                     epilog=__doc__.partition("\n\n")[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long (default: 10; with --kills: until they are done)")
    parser.add_argument("--kills", type=int, metavar="N", help="kill each kind of process N times")
    parser.add_argument("--netns", action="store_true", help="network namespaces; needs root")
    parser.add_argument("--rounds", type=int, metavar="N", help="with --netns: so many rounds of the three cuts in each pair of phases")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31), help="the same seed, the same choices (default: random)")
    parser.add_argument("--proxies", type=int, metavar="N", help="default: 1; with --netns: 2")
    parser.add_argument("--migrators", type=int, metavar="N", help="default: 1; with --netns: 3")
    parser.add_argument("--phases", default=",".join(PHASES[1:]), help="default: %(default)s")
    parser.add_argument("--scenarios", metavar="NAME,...", help="of the steps; default: all. " + ", ".join(s.name for s in SCENARIOS))
    parser.add_argument("--mutant", metavar="RULE", help="the proxies and migrators of the steps break this rule (src/base/trip.h)")
    parser.add_argument("--first", action="store_true", help="of the steps: the first violation ends the run")
    parser.add_argument("--keep", metavar="FOLDER", help="put the record of each violation there")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    args = parser.parse_args()
    args.phases = args.phases.split(",")
    for phase in args.phases:
        if phase not in PHASES:
            parser.error(f"no phase {phase}")
    return args


def main():
    args = arguments()
    if args.netns and not netns.is_isolated():
        code, out = netns.run_isolated([__file__, *sys.argv[1:], "--seed", args.seed])
        sys.stdout.write(out)
        return code
    keep = Path(args.keep) if args.keep else None
    if keep:
        keep.mkdir(parents=True, exist_ok=True)

    def say(text):
        print(text, file=sys.stderr, flush=True)
    report = Report("netns" if args.netns else "kills" if args.kills else "steps", args.seed, say, keep)
    say(f"{report.name}: seed {args.seed}, phases {', '.join(args.phases)}, binary {os.environ.get('R2SHIM_BIN')}")
    seconds = args.minutes and args.minutes * 60
    code = 0
    try:
        if args.netns:
            netns.run_netns(report, args.phases, seconds or (None if args.rounds else 600), args.rounds, args.proxies or 2, args.migrators or 3)
        elif args.kills:
            run_kills(report, args.phases, args.kills, args.proxies or 1, args.migrators or 1)
        else:
            run_steps(report, args.phases, seconds or 600, args.migrators or 1, args.proxies or 1,
                      args.scenarios and args.scenarios.split(","), args.mutant, first=args.first)
    except KeyboardInterrupt:
        say("interrupted: this is what was done until then")
        code = 130
    print(report.json() if args.json else report.text())
    return 1 if report.violations else code


if __name__ == "__main__":
    sys.exit(main())
