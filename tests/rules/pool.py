# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many small cases in a few processes: the first that fails ends all of them and is named."""
import argparse
import collections
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback

PATIENCE = 300  # seconds without a word of any process: far more than one case takes
END = 30  # seconds for what a process does at its end


class Report:
    def __init__(self, queue):
        self.queue, self.case = queue, None

    def begin(self, case):
        self.case = case

    def done(self, what):
        self.queue.put((self.case, what, None))


def end(processes, early):
    """With all that they started: a modem may be stopped in the middle of a case, and a worker hang."""
    for p in processes:
        if early and p.pid:
            p.terminate()
    for p in processes:
        if p.pid:
            p.join(END)
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def run_pool(title, work, jobs, again, good=lambda came_to: True):
    """work(number, jobs, report) in each process. again: the words that repeat one case, before its name. The exit status."""
    jobs = jobs or os.cpu_count() + 1
    context = multiprocessing.get_context("fork")
    queue, begun = context.Queue(), time.monotonic()

    def child(number):
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        report = Report(queue)
        try:
            work(number, jobs, report)
            queue.put((None, None, None))
        except BaseException:
            queue.put((report.case, None, traceback.format_exc()))

    running = [context.Process(target=child, args=(i,)) for i in range(jobs)]
    came_to, failed, left = collections.Counter(), None, jobs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for p in running:
            p.start()
        while left and not failed:
            case, what, error = queue.get(timeout=PATIENCE)
            if error:
                failed = case, error
            elif what is None:
                left -= 1
            else:
                came_to[what] += 1
    finally:
        end(running, bool(left))
    if failed:
        print("FAIL %s %s (%s %s)\n%s" % (title, failed[0], again, failed[0], failed[1]))
        return 1
    print("ok   %s: %d in %.0f s: %s" % (title, sum(came_to.values()), time.monotonic() - begun,
                                        ", ".join("%d %s" % (n, what) for what, n in came_to.most_common())))
    return 0 if came_to and good(came_to) else 1


POINTS_AT_ONCE = 3 * (os.cpu_count() or 2)  # driver, worker and modem of one run wait for each other a lot


def run_points(doc, name, cases, good=lambda came_to: True):
    """The program NAME.py, which runs all points, or one with --only. cases(directory) has points(all_of_them) and run(point)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()

    def work(number, jobs, report):
        with tempfile.TemporaryDirectory(prefix="qdld-%s." % name) as directory:
            those = cases(directory)
            for i, point in enumerate([options.only] if options.only else those.points(options.all)):
                if i % jobs == number:
                    report.begin(point)
                    report.done(those.run(point))
    title = name.replace("diag", "DIAG").replace("-", " ")
    if options.only:
        return run_pool(title, work, 1, name + ".py --only")
    return run_pool(title, work, POINTS_AT_ONCE, name + ".py --only", good)
