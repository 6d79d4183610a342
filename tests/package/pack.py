# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes a package as a directory, zip, 7z or tar. Members have a fixed date and mode, so equal packages are equal bytes."""

import io
import os
import stat
import subprocess
import tarfile
import tempfile
import zipfile

DATE = (2021, 12, 6, 0, 0, 0)
SECONDS = 1638748800

# What only an archive can hold, in Package.extra_members: (kind, name, target or content).
FILE, SYMLINK, HARDLINK, DEVICE = "file", "symlink", "hardlink", "device"


def write(package, out, top):
    files = {(top + "/" if top else "") + path: data for path, data in package.files.items()}
    if out.endswith(".zip"):
        write_zip(files, package.extra_members, out)
    elif out.endswith(".7z"):
        write_7z(files, package.extra_members, out)
    elif out.endswith((".tar", ".tar.gz", ".tar.xz", ".tar.zst")):
        write_tar(files, package.extra_members, out)
    else:
        write_directory(package.files, package.extra_members, out)


def write_directory(files, extra, out):
    for path, data in files.items():
        target = os.path.join(out, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(data)
    for kind, name, value in extra:
        if kind == SYMLINK:
            os.symlink(value, os.path.join(out, name))
        elif kind == HARDLINK:
            os.link(os.path.join(out, value), os.path.join(out, name))
        elif kind == FILE and not name.startswith("/") and ".." not in name:
            target = os.path.join(out, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as f:
                f.write(value)


def write_zip(files, extra, out):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for path, data in files.items():
            info = zipfile.ZipInfo(path, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            z.writestr(info, data, compresslevel=1)
        for kind, name, value in extra:
            info = zipfile.ZipInfo(name, DATE)
            mode = {FILE: stat.S_IFREG, SYMLINK: stat.S_IFLNK}.get(kind)
            if mode is None:
                raise SystemExit("a zip holds no %s" % kind)
            info.external_attr = (mode | 0o644) << 16
            z.writestr(info, value)


def write_7z(files, extra, out):
    with tempfile.TemporaryDirectory() as d:
        write_directory(files, extra, d)
        for base, directories, names in os.walk(d):
            for name in directories + names:
                os.utime(os.path.join(base, name), (SECONDS, SECONDS), follow_symlinks=False)
        if os.path.exists(out):
            os.unlink(out)
        subprocess.run(["7z", "a", "-snl", "-mx=1", "-mtc=off", "-mta=off", "-bd", os.path.abspath(out), "."],
                       cwd=d, check=True, stdout=subprocess.DEVNULL)


def write_tar(files, extra, out):
    compression = out.rsplit(".", 1)[1]
    plain = out if compression == "tar" else out + ".tmp"
    with tarfile.open(plain, "w", format=tarfile.GNU_FORMAT) as t:
        for path, data in files.items():
            t.addfile(tar_info(path, len(data)), io.BytesIO(data))
        for kind, name, value in extra:
            if kind == FILE:
                t.addfile(tar_info(name, len(value)), io.BytesIO(value))
                continue
            info = tar_info(name, 0)
            info.type = {SYMLINK: tarfile.SYMTYPE, HARDLINK: tarfile.LNKTYPE, DEVICE: tarfile.CHRTYPE}[kind]
            info.linkname = value if kind != DEVICE else ""
            t.addfile(info)
    if compression == "tar":
        return
    tool = {"gz": ["gzip", "-n", "-1"], "xz": ["xz", "-1"], "zst": ["zstd", "-q", "-1"]}[compression]
    with open(plain, "rb") as source, open(out, "wb") as target:
        subprocess.run(tool + ["-c"], stdin=source, stdout=target, check=True)
    os.unlink(plain)


def tar_info(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    info.mtime = SECONDS
    info.mode = 0o644
    return info


