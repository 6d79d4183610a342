# SPDX-License-Identifier: LGPL-2.1-or-later
"""Workers that cannot die, workers that say nothing, and what workers write to stderr."""

import os
import time

from conftest import JOB, WELL_BEFORE, Refused, error, wait_until
from test_api import LASTING, archive  # noqa: F401


def stalled_import(service, stalling):
    """The job, once its worker is in a read that nothing ends; and that worker."""
    fd = stalling("read")
    before = set(service.workers())
    job = service.import_file(fd)
    worker = wait_until(lambda: set(service.workers()) - before).pop()
    stalling.asked()
    return job, worker, fd


def test_an_archive_whose_owner_does_not_answer(new_service, stalling):
    service = new_service().start(config="[Limits]\nInputTimeoutSec=1\nImportsPerUser=1\n")
    job, worker, fd = stalled_import(service, stalling)
    assert service.wait_job(job) == "failed"
    assert service.get(job, JOB, "ErrorName") == error("Timeout") and "does not answer" in service.get(job, JOB, "ErrorMessage")
    assert worker in service.workers()  # nothing ends it ...
    with Refused("LimitExceeded"):
        service.import_file(fd)  # ... and it counts
    stalling.end()
    wait_until(lambda: worker not in service.workers())
    read_end, write_end = os.pipe()
    job = service.import_file(read_end)
    os.close(write_end)
    os.close(read_end)
    assert service.wait_job(job) == "failed" and service.get(job, JOB, "ErrorName") == error("FirmwareInvalid")


def test_cancel_of_an_archive_whose_owner_does_not_answer(new_service, stalling):
    service = new_service().start()
    job, worker, _ = stalled_import(service, stalling)
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled"
    assert worker in service.workers()


def test_the_end_of_the_service_waits_for_nothing_that_cannot_end(new_service, stalling):
    service = new_service().start()
    job, worker, _ = stalled_import(service, stalling)
    begin = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - begin < WELL_BEFORE
    assert os.path.exists(f"/proc/{worker}")  # left behind
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted"


SILENT = """
order = begin()
say("READY=1", "PHASE=spool", "DETAIL=")
time.sleep(600)
"""


def test_an_import_that_says_nothing(new_service, forge, archive):
    service = new_service().start(worker=forge(SILENT), config="[Limits]\nInputTimeoutSec=1\n")
    job = service.import_file(archive)
    assert service.wait_job(job) == "failed" and service.get(job, JOB, "ErrorName") == error("Timeout")
    assert service.workers() == []


TALKATIVE = """
order = begin()
say("READY=1")
os.write(1, b"an \\x1b[31mescape and \\xff\\n")
os.write(2, b"half a line")
os.kill(os.getpid(), signal.SIGKILL)
"""

FLOOD = """
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
order = begin()
say("READY=1")
try:
    for _ in range(1000):
        os.write(2, b"x" * 1000 + b"\\n")
except BrokenPipeError:
    say("LOG=nobody listens any more")
hear_until("CANCEL")
"""


def test_words_of_a_worker_are_told_escaped(new_service, forge, archive):
    service = new_service().start(worker=forge(TALKATIVE))
    assert service.wait_job(service.import_file(archive)) == "failed"
    assert "qdld-worker[" in service.errors()
    assert "an \\x1b[31mescape and \\xff\n" in service.errors() and ": half a line\n" in service.errors()


def test_words_of_a_worker_are_bounded(new_service, forge, archive):
    service = new_service().start(worker=forge(FLOOD))
    job = service.import_file(archive)
    wait_until(lambda: "nobody listens any more" in service.log(job))
    assert "which is not kept" in service.errors() and service.errors().count("x") < 100000


def test_the_imports_under_way_count_for_the_library(new_service, forge, archive):
    """Two files without a name are together larger than the library may be."""
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1")
os.pwrite(order.fds["store"], bytes(700 << 10), 0)
say("PROGRESS=10", "BYTES_DONE=716800", "BYTES_TOTAL=9999999")
hear()
"""), config="[Limits]\nLibrarySizeMax=1M\n")
    first = service.import_file(archive)
    wait_until(lambda: service.get(first, JOB, "BytesDone") > 0)
    second = service.import_file(archive, "second")
    assert service.wait_job(second) == "failed" and service.get(second, JOB, "ErrorName") == error("NoSpace")
    assert service.get(first, JOB, "State") == "running"
