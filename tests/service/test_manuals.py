# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manuals and completion say what the programs say."""

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import BUILD, TOP
from test_qdlctl import settings

def manual(path):
    """Its text, without formatting."""
    out = subprocess.run(["groff", "-man", "-Tutf8", "-P-cbou", "-rLL=200n", path], capture_output=True, text=True)
    assert out.returncode == 0 and out.stderr == "", out.stderr
    return re.sub(r"[\u2010\u2212]", "-", out.stdout)


def words_of(text):
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def api_page(tmp_path_factory):
    page = tmp_path_factory.mktemp("man") / "org.qdld1.5"
    page.write_text(subprocess.run([TOP / "dbus" / "make-manual", TOP / "dbus" / "org.qdld1.xml"], check=True, capture_output=True, text=True).stdout)
    return manual(page)


def test_every_page_is_clean():
    for page in (TOP / "man").iterdir():
        if not page.read_text().startswith(".so "):
            assert manual(page)


def test_the_api_page_has_every_member(api_page):
    for interface in ElementTree.parse(TOP / "dbus" / "org.qdld1.xml").getroot().findall("interface"):
        section = api_page.split(interface.get("name").upper(), 1)[1]
        for member in [*interface.findall("method"), *interface.findall("property")]:
            assert re.search(rf"^ +{member.get('name')}\b", section, re.M), (interface.get("name"), member.get("name"))


def test_a_member_without_documentation_stops_the_build(tmp_path):
    source = (TOP / "dbus" / "org.qdld1.xml").read_text()
    (tmp_path / "api.xml").write_text(re.sub(r"<!-- Busy:.*?-->", "", source, count=1))
    out = subprocess.run([TOP / "dbus" / "make-manual", tmp_path / "api.xml"], capture_output=True, text=True)
    assert out.returncode != 0 and out.stderr == "org.qdld1.Manager.Busy has no documentation\n"


def test_qdlctl_s_page_has_every_verb_and_option():
    page = words_of(manual(TOP / "man" / "qdlctl.1"))
    help_text = subprocess.run([BUILD / "qdlctl", "--help"], capture_output=True, text=True).stdout
    options = set(re.findall(r"--[a-z-]+", help_text))
    verbs = re.findall(r"^  ([a-z]+(?:-[a-z]+)?)", help_text.split("Verbs:")[1].split("MODEM is")[0], re.M)
    assert len(options) > 10 and len(verbs) > 10
    assert not [o for o in options if o not in page]
    assert not [v for v in verbs if not re.search(rf"\b{v}\b", page)]


def test_qdld_s_page_has_every_option():
    page = manual(TOP / "man" / "qdld.8")
    for option in re.findall(r"--[a-z-]+", subprocess.run([BUILD / "qdld", "--help"], capture_output=True, text=True).stdout):
        assert option in page, option


# ---- completion ----

@pytest.fixture
def complete(bus_address):
    """complete("qdlctl firmware i"): what bash offers for the last word."""
    def run(line):
        script = (f'source {TOP}/client/qdlctl.bash\nCOMP_WORDS=({line})\n[[ "{line}" == *" " ]] && COMP_WORDS+=("")\n'
                  'COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_qdlctl\nprintf "%s\\n" "${COMPREPLY[@]}"\n')
        environment = dict(settings(bus_address), PATH=f"{BUILD}:{os.environ['PATH']}")
        out = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, cwd="/")
        assert out.returncode == 0 and out.stderr == "", out.stderr
        return sorted(out.stdout.split())
    return run


def test_completion_of_verbs_and_options(complete):
    assert {"list", "flash", "firmware", "backups", "inhibit", "doctor"} <= set(complete("qdlctl "))
    assert complete("qdlctl fl") == ["flash"]
    assert complete("qdlctl firmware im") == ["import"] and "list" in complete("qdlctl backups ")
    assert complete("qdlctl flash --modem-v") == ["--modem-version"]
    assert complete("qdlctl backups export --fo") == ["--format"] and complete("qdlctl flash --fo") == []
    assert complete("qdlctl --modem-v") == ["--modem-version"]
    assert complete("qdlctl --no-wait fla") == ["flash"]
    assert complete("qdlctl inhibit x -- ") == []


def test_completion_of_names(complete, new_service, plug, make_package):
    service = new_service()
    service.start()
    assert complete("qdlctl status ") == []
    plug(service)
    service.modem()
    assert complete("qdlctl status ") == ["1-1.2"] == complete("qdlctl identify 1")
    assert service.wait_job(service.import_file(make_package())) == "done"
    assert any(len(word) == 12 for word in complete("qdlctl firmware show "))


def test_completion_without_a_service(complete):
    assert complete("qdlctl status ") == []
