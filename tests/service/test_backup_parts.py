# SPDX-License-Identifier: LGPL-2.1-or-later
"""What unfinished backups had read, bounded in number, age and space; and never taken from whoever began one yesterday."""

import time

import pytest
from conftest import Refused
from test_backup import content, needs_root, small_disk, start_bench  # noqa: F401 (fixtures)

HOUR, DAY = 3600, 24 * 3600


def leave_parts(service, *ages, size=1000):
    """As earlier services left them, of a modem each; ages in seconds. The jobs' numbers."""
    jobs = service.state / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    now = int(time.time() * 1e6)
    for n, age in enumerate(ages, 1):
        record = {"KIND": "backup", "MODEM": f"/org/qdld1/modem/port_{n}", "STATE": "finished", "RESULT": "interrupted",
                  "BACKUP_KIND": "nand", "PARTITIONS": "", "ENDED": now - int(age * 1e6), "CREATED": now - int(age * 1e6)}
        (jobs / f"{n}.rec").write_text("".join(f"{k}={v}\n" for k, v in record.items()))
        (jobs / f"{n}.journal").write_bytes(b"journal")
        (jobs / f"{n}.part").write_bytes(b"\xff" * size)


def parts(service):
    names = {suffix: sorted(int(p.stem) for p in (service.state / "jobs").glob("*." + suffix)) for suffix in ("part", "journal")}
    assert names["part"] == names["journal"], names
    return names["part"]


@pytest.fixture
def start(new_service):
    def start(*ages, config=""):
        service = new_service()
        leave_parts(service, *ages)
        return service.start(config=config)
    return start


def test_the_old_ones_go_when_the_service_starts(start):
    service = start(8 * DAY, 6 * DAY, 30 * DAY, HOUR)
    assert parts(service) == [2, 4]
    assert "was not continued in time" in service.errors()


def test_of_many_the_newest_stay(start):
    service = start(*(DAY * (2 + n / 4) for n in range(11)))
    assert parts(service) == list(range(1, 9))


def test_none_of_yesterday_goes(start):
    service = start(*([HOUR] * 12), -DAY)
    assert parts(service) == list(range(1, 14))


def test_how_long_is_a_setting(start):
    service = start(3 * HOUR, HOUR, config="[Limits]\nJobsLingerSec=7200\n")
    assert parts(service) == [2]


@needs_root
def test_they_make_room_for_what_is_saved(small_disk, start_bench):
    """On a disk of 64 MiB, of which 16 are never given away."""
    bench = start_bench()
    bench.service.stop()
    leave_parts(bench.service, 2 * DAY, HOUR, size=25 << 20)
    bench.service.start()
    assert parts(bench.service) == [1, 2]
    bench.service.wait_job(bench.service.import_backup(bench.file(content())))  # accepted, whatever is in it
    assert parts(bench.service) == [2], "what is older than a day"
    assert "its space is needed" in bench.service.errors()
    # What is younger is not for sale.
    (small_disk / "filling").write_bytes(b"\xff" * (30 << 20))
    with Refused("NoSpace"):
        bench.service.import_backup(bench.file(content()))
    assert parts(bench.service) == [2]
