#!/usr/bin/python3 -B
"""Explores the models with spin, all variants of variants.py, and compares what comes out with what is expected.

usage: run.py check [NAME...]    every variant that is not "deep", or those named; then the table in docs/protocol.md
       run.py deep [NAME...]     the larger ones
       run.py trail NAME         how a variant loses: a shortest run, one step a line
       run.py table              the table for docs/protocol.md

A variant that is expected to hold must be explored to its end, without an error, and without a shortcut (bit states, a
depth or a memory that was not enough). One that is expected to lose must lose for the expected reason: see its last line.
"""
import collections
import re
import subprocess
import sys
import time
from pathlib import Path

from variants import VARIANTS

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
DOCS = TOP / "docs/protocol.md"
BEGIN, END = "<!-- tests/model: begin -->", "<!-- tests/model: end -->"
DEPTH = 2000000
MEMORY = 2500		# MiB for one exploration
# What a model says when a promise is broken.
FAILS = re.compile(r"STALE|RESURRECTED|LOST|STUCK|DIVERGED|BROKEN|is read|reads %d, but|validate reads")
Outcome = collections.namedtuple("Outcome", "result states depth seconds why")


class Broken(Exception):
    """No result: a model that spin or the compiler refuses, or an exploration that was cut short."""


def folder(variant):
    path = TOP / "build/model" / variant.name
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(command, cwd, **kwargs):
    return subprocess.run([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **kwargs)


def defines(variant):
    return [f"-D{word}" for word in variant.defines.split()]


def compile_pan(variant):
    """A losing variant is searched breadth first: its trail is a shortest one. A holding one depth first.

    Compiled with -O1: -O2 explores no faster and takes twice as long to compile."""
    cwd = folder(variant)
    for old in cwd.glob("*"):
        old.unlink()
    flags = ["-O1", "-w", "-DNOREDUCE", f"-DMEMLIM={MEMORY}"]
    if variant.progress:
        flags += ["-DNP", "-DNFAIR=3", "-DCOLLAPSE"]
    else:
        flags += ["-DSAFETY"] + (["-DBFS"] if variant.expected == "loses" else ["-DCOLLAPSE"])
    for command in (["spin", *defines(variant), "-a", HERE / variant.file], ["gcc", *flags, "-o", "pan", "pan.c"]):
        done = run(command, cwd)
        if done.returncode != 0 or "Error" in done.stdout:
            raise Broken(done.stdout.strip())
    return cwd


def number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise Broken("pan printed no figures:\n" + text)
    return int(float(found[1]))


def explore(variant):
    cwd = compile_pan(variant)
    began = time.monotonic()
    options = ["-w20"] + ([] if variant.expected == "loses" and not variant.progress else [f"-m{DEPTH}"])
    text = run(["./pan", *options, *(["-l", "-f"] if variant.progress else [])], cwd).stdout
    seconds = time.monotonic() - began
    (cwd / "pan.out").write_text(text)
    errors = number(r"errors: (\d+)", text)
    states, depth = number(r"\n *(\S+) states, stored", text), number(r"depth reached (\d+)", text)
    if errors:
        steps = trail(variant)
        return Outcome("loses", states, depth, seconds, steps[-1] if steps else "")
    for bad in ("max search depth too small", "out of memory", "Bit statespace", "not completed", "hash factor"):
        if bad in text:
            raise Broken(f"not explored to the end: {bad}")
    if "Full statespace search" not in text:
        raise Broken("no full search")
    missed = unreached(text, variant)
    if missed:
        raise Broken("holds without ever being there: " + "; ".join(missed))
    return Outcome("holds", states, depth, seconds, "")


def unreached(text, variant):
    """Steps of a "reach" variant that no run came to: a model in which nothing happens holds, too."""
    if not variant.reach:
        return []
    words = [""] if variant.reach is True else variant.reach
    found = re.findall(r'pml:(\d+), state \d+, "(.*)"\n', text)
    return [f"line {line}: {step}" for line, step in found
            if step.startswith("printf(") and not FAILS.search(step)
            and any(word in step for word in words) and not any(word in step for word in variant.unreached)]


def trail(variant):
    """The steps of the trail that pan left; the models print them, pan does not."""
    cwd = folder(variant)
    found = list(cwd.glob("*.trail"))
    if not found:
        raise Broken("pan found an error and left no trail")
    text = run(["spin", *defines(variant), "-t", "-T", "-k", found[0], HERE / variant.file], cwd).stdout
    steps = []
    for line in text.splitlines():
        if re.match(r"spin: .*assertion violated|spin: trail ends|#processes|timeout", line.strip()):
            break
        steps.append(line.strip())
    return steps


def judge(variant):
    """One line of the table; True if it is as expected."""
    try:
        outcome = explore(variant)
    except Broken as e:
        print(f"{variant.name:<34} {variant.expected:<9} BROKEN    {e}", flush=True)
        return False
    good = outcome.result == variant.expected and (not variant.why or bool(re.search(variant.why, outcome.why)))
    print(f"{variant.name:<34} {variant.expected:<9} {outcome.result if good else outcome.result.upper() + '!':<9}"
          f"{outcome.states:>10} {outcome.depth:>8} {outcome.seconds:>7.1f}  {outcome.why}", flush=True)
    return good


def table():
    """Markdown: a row for each variant, by file."""
    lines, last = [], None
    for v in VARIANTS:
        if v.file != last:
            lines += ["", f"`tests/model/{v.file}`:", "", "| variant | what it is | result |", "|---|---|---|"]
            last = v.file
        result = ("**loses**" if v.expected == "loses" else "holds") + (" (deep)" if v.deep else "")
        lines.append(f"| `{v.name}` | {v.shows} | {result} |")
    return "\n".join(lines[1:]) + "\n"


def docs_agree():
    """The page has the table of this program."""
    text = DOCS.read_text()
    found = re.search(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), text, re.DOTALL)
    good = bool(found) and found[1].strip() == table().strip()
    print(f"{'docs/protocol.md':<34} {'agrees':<9} {'agrees' if good else 'DIFFERS: make -C tests/model docs'}")
    return good


def docs_write():
    whole = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    DOCS.write_text(whole.sub(lambda m: m[1] + "\n" + table() + "\n" + m[2], DOCS.read_text()))


def check(names, deep):
    chosen = [v for v in VARIANTS if v.name in names] if names else [v for v in VARIANTS if v.deep == deep]
    unknown = set(names) - {v.name for v in chosen}
    if unknown:
        sys.exit(f"run.py: no variant {', '.join(sorted(unknown))}; they are in tests/model/variants.py")
    print(f"{'variant':<34} {'expected':<9} {'result':<9}{'states':>10} {'depth':>8} {'seconds':>7}  "
          "the last step of a losing run")
    good = [judge(v) for v in chosen]
    if not names and not deep:
        good.append(docs_agree())
    print(f"{sum(good)} passed, {len(good) - sum(good)} failed, 0 skipped")
    return 0 if good and all(good) else 1


def main():
    command, names = (sys.argv + [""])[1], sys.argv[2:]
    if command in ("check", "deep"):
        return check(names, command == "deep")
    if command == "table":
        print(table(), end="")
        return 0
    if command == "docs":
        docs_write()
        return 0
    if command == "trail" and len(names) == 1 and names[0] in {v.name for v in VARIANTS}:
        variant = next(v for v in VARIANTS if v.name == names[0])
        if variant.expected == "holds":
            sys.exit(f"run.py: {variant.name} holds, it has no trail")
        explore(variant)
        print("\n".join(f"{n:>3}  {step}" for n, step in enumerate(trail(variant), 1)))
        return 0
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
