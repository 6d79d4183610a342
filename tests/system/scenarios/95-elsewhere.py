# SPDX-License-Identifier: LGPL-2.1-or-later
"""Without a package: README's block for other distributions, on a system where purging has left nothing."""

import os
import pathlib
import shutil

from ring import SHARE, Modem, as_user, follow, readme_commands, run, scenario, show


@scenario
def installed_elsewhere_as_the_readme_says():
    """each command of README's block "Elsewhere", as written: make, make install, users, bus, udev, service; then a member flashes"""
    if os.path.exists("/usr/bin/qdlctl"):
        run("apt-get", "--yes", "purge", "qdld", "qdlctl", timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    shutil.rmtree("/var/lib/qdld", ignore_errors=True)
    run("userdel", "qdld", code=None)
    for group in ("qdld", "qdl"):
        run("groupdel", group, code=None)
    checkout = pathlib.Path("/home/member/qdld")
    checkout.mkdir()
    run("tar", "-C", checkout, "-xf", SHARE / "tree.tar")
    run("chown", "-R", "member:", checkout)
    try:
        follow(readme_commands("^Elsewhere"), checkout)
    finally:
        shutil.rmtree(checkout)
    assert run("dpkg-query", "--search", "/usr/bin/qdlctl", code=None).code != 0, "it was to be no package"
    assert show("ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
    modem = Modem()
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed()
