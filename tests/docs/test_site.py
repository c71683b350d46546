"""The site that MkDocs builds of docs/ reads nothing from the network. Wants the extra `docs`."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="wants the extra `docs`")
# What a browser loads by itself; a link that a person may follow is none of it.
LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?([^"\s>]+)|<link\b[^>]*\bhref="?([^"\s>]+)""")
IN_STYLE = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)|@import\s+[\"']([^\"']+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_pages_and_styles_load_nothing_from_elsewhere(site: Path) -> None:
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert len(pages) > 10 and styles
    loaded = {a or b for page in pages for a, b in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert any(target.endswith(".css") for target in loaded)
    assert [target for target in loaded if re.match(r"(?:\w+:)?//", target)] == []
    assert [found for style in styles for found in IN_STYLE.findall(style.read_text(encoding="utf-8"))] == []


def test_figures_from_outside_the_pages_are_on_the_site(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    (source,) = re.findall(r'src="?([^"\s>]+frontier\.svg)', page)
    assert (site / source).read_bytes() == (ROOT / source).read_bytes()
