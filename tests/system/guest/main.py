#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the scenarios inside a VM, one line each, and leaves in /out what helps to find out why one failed. Of several VMs each takes what no
other has taken."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ring  # noqa: E402


def load():
    """What is taken at a time: lists of (name, function) in the order of files and of definition, a file's own if it says TOGETHER."""
    found = []
    for path in sorted((HERE.parent / "scenarios").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        scenarios = [(name, f) for name, f in vars(module).items() if getattr(f, "scenario", None)]
        found += [scenarios] if getattr(module, "TOGETHER", False) else [[s] for s in scenarios]
    return found


def taken(name):
    """By this VM, now; False if another one was first."""
    try:
        (ring.OUT / "taken" / name).mkdir(parents=True)
        return True
    except FileExistsError:
        return False


def wanted(name, function, words):
    return not words or function.always or any(w in name for w in words)


def keep(name, since, why):
    """What was seen of a scenario that failed."""
    place = ring.OUT / name
    place.mkdir(exist_ok=True)
    (place / "reason").write_text(why)
    with open(place / "journal", "wb") as f:
        subprocess.run(["journalctl", "-o", "short-precise", "--no-hostname", f"--since=@{since:.3f}"], stdout=f, check=False)
    with open(place / "state", "wb") as f:
        for command in (["systemctl", "status", "--no-pager", "qdld"], ["qdlctl", "status"], ["qdlctl", "jobs"], ["ls", "-lR", "/dev/bus/usb"],
                        ["sh", "-c", "for j in $(qdlctl jobs --no-legend | tail -n 3 | awk '{print $1}'); do qdlctl log --no-pager $j; done"]):
            f.write(b"\n# " + " ".join(command).encode() + b"\n")
            f.flush()
            try:
                subprocess.run(command, stdout=f, stderr=f, stdin=subprocess.DEVNULL, check=False, timeout=60)
            except (OSError, subprocess.TimeoutExpired) as e:
                f.write(f"{e}\n".encode())
    for path in ring.WORK.glob("*.trace"):
        (place / path.name).write_bytes(path.read_bytes())
    for path in ring.WORK.glob("*.log"):
        (place / path.name).write_bytes(path.read_bytes())


def run(name, function, place=None):
    """How it went: passed, failed, skipped. place: where what is kept of a failure lies, if not under its name."""
    begun, since = time.monotonic(), time.time()
    (ring.OUT / f"running-{ring.VM}").write_text(name + "\n")
    subprocess.run(["logger", "-t", "scenario", name], check=False)
    why = detail = None
    try:
        function()
    except ring.Skip as e:
        print(f"skip {time.monotonic() - begun:6.1f} s  {name}: {e}", flush=True)
        return "skipped"
    except BaseException as e:  # noqa: B902
        why = str(e).strip() or type(e).__name__
        detail = traceback.format_exc()
    if why:
        keep(place or name, since, detail)
    try:
        ring.tidy()
    except BaseException as e:  # noqa: B902
        if not why:
            why = f"afterwards: {e}"
            keep(place or name, since, traceback.format_exc())
    what = " ".join((function.__doc__ or "").split())
    first = why.splitlines()[0][:300] if why else what
    print(f"{'FAIL' if why else 'ok  '} {time.monotonic() - begun:6.1f} s  {name}: {first}", flush=True)
    return "failed" if why else "passed"


def backwards(groups):
    """What installs stays first, what removes last."""
    def fixed(group):
        return group[0][1].always or group[0][1].__module__[:2] >= "90"
    middle = [g for g in groups if not fixed(g)]
    return [g if fixed(g) else middle.pop() for g in groups]


def scenarios(words, options):
    """How many passed, failed, were skipped."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    if ring.VM != "1":
        ring.install_for_member()  # following the README once is enough
    groups = load()
    for group in backwards(groups) if "--reversed" in options else groups:
        group = [(name, f) for name, f in group if wanted(name, f, words)]
        if not group or (ring.VM != "1" if group[0][1].always else not taken(group[0][0])):
            continue
        for name, function in group:
            result = run(name, function)
            if result == "failed" and "--again" in options:
                result = run(name, function, name + "-again")  # nobody watches: it counts what it does once more
            counts[result] += 1
            if result == "failed" and function.always:
                print("nothing else can run without it", flush=True)
                return counts
    return counts


def main():
    ring.prepare()
    words = [a for a in sys.argv[1:] if not a.startswith("--")]
    options = [a for a in sys.argv[1:] if a.startswith("--")]
    if "--bench" in options:
        import bench
        counts = {"failed": bench.main(words)}
    else:
        uptime = float(open("/proc/uptime").read().split()[0])
        print(f"VM {ring.VM} is up after {uptime:.0f} s", flush=True)
        counts = scenarios(words, options)
        with open(ring.OUT / f"journal-{ring.VM}", "wb") as f:
            subprocess.run(["journalctl", "-o", "short-precise", "--no-hostname"], stdout=f, check=False)
    (ring.OUT / f"running-{ring.VM}").unlink(missing_ok=True)
    subprocess.run(["sync"], check=False)
    print("counts " + json.dumps(counts), flush=True)


try:
    main()
except BaseException:  # noqa: B902
    print("FAIL the runner itself:", flush=True)
    print(traceback.format_exc(), flush=True)
    raise
