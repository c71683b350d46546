"""A folder of a person's own is taken where it lies."""

from pathlib import Path

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.settings.sources import FolderSource
from safety_tax.sources.folder import fetch_folder


def of(path: str) -> FolderSource:
    return FolderSource(kind="folder", path=path)


def test_a_folder_is_itself_and_nothing_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    assert fetch_folder(of(str(tmp_path / "mine"))) == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    assert fetch_folder(of("mine")) == Path("mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch_folder(of("~/mine")) == tmp_path / "mine"


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, found in (("file", "a file; name its folder as"), ("none", "none; correct")):
        with pytest.raises(PipelineError) as raised:
            fetch_folder(of(str(tmp_path / name)))
        assert str(raised.value) == f"Expected a folder at {tmp_path / name}, found {found} `path` in params.yaml."
