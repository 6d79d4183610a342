#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the scenarios inside the VM, one line each, and leaves in /out what helps to find out why one failed."""

import importlib.util
import pathlib
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import ring  # noqa: E402


def load():
    """(name, function) in the order of files and of definition."""
    found = []
    for path in sorted((HERE.parent / "scenarios").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [(name, f) for name, f in vars(module).items() if getattr(f, "scenario", None)]
    return found


def wanted(name, function, words):
    return not words or function.always or any(w in name for w in words)


def too_slow(name, function, words):
    """Only if it was asked for."""
    return function.slow and not any(w in name for w in words)


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


def run(name, function):
    """None, or why it failed."""
    begun, since = time.monotonic(), time.time()
    (ring.OUT / "running").write_text(name + "\n")
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
        keep(name, since, detail)
    try:
        ring.tidy()
    except BaseException as e:  # noqa: B902
        if not why:
            why = f"afterwards: {e}"
            keep(name, since, traceback.format_exc())
    what = " ".join((function.__doc__ or "").split())
    first = why.splitlines()[0][:300] if why else what
    print(f"{'FAIL' if why else 'ok  '} {time.monotonic() - begun:6.1f} s  {name}: {first}", flush=True)
    return "failed" if why else "passed"


def main():
    ring.prepare()
    if sys.argv[1:2] == ["--bench"]:
        import bench
        bench.main(sys.argv[2:])
        return
    words = [w for w in sys.argv[1:] if w != "--again"]
    uptime = float(open("/proc/uptime").read().split()[0])
    print(f"the VM is up after {uptime:.0f} s", flush=True)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, function in load():
        if not wanted(name, function, words):
            continue
        if too_slow(name, function, words):
            counts["skipped"] += 1
            print(f"skip    0.0 s  {name}: takes minutes (ONLY={name} runs it)", flush=True)
            continue
        result = run(name, function)
        if result == "failed" and "--again" in sys.argv:
            result = run(name, function)  # nobody watches: it counts what it does once more
        counts[result] += 1
        if result == "failed" and function.always:
            print("nothing else can run without it", flush=True)
            break
    with open(ring.OUT / "journal", "wb") as f:
        subprocess.run(["journalctl", "-o", "short-precise", "--no-hostname"], stdout=f, check=False)
    print("check-system: {passed} passed, {failed} failed, {skipped} skipped".format(**counts), flush=True)
    subprocess.run(["sync"], check=False)


try:
    main()
except BaseException:  # noqa: B902
    print("FAIL the runner itself:", flush=True)
    print(traceback.format_exc(), flush=True)
    raise
