"""A folder on this machine."""

from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.settings.sources import FolderSource


def fetch_folder(source: FolderSource) -> Path:
    """Return the folder itself; raises PipelineError when it is not there."""
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        found = "a file; name its folder as" if folder.exists() else "none; correct"
        raise PipelineError(f"Expected a folder at {folder}, found {found} `path` in params.yaml.")
    return folder
