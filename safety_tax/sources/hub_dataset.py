"""Named files of a dataset on the Hugging Face Hub at one commit."""

import shutil
from functools import partial
from pathlib import Path

from huggingface_hub import hf_hub_download

from safety_tax.settings.sources import HubDatasetSource
from safety_tax.sources.hub_errors import ask_hub, require_digest


def fetch_dataset(source: HubDatasetSource, scratch: Path) -> Path:
    """Download the named files and return a folder that holds these alone, at their places in the repository.

    HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE apply. Raises PipelineError, with the next step, when the
    repository, the commit or a file cannot be had, or a file is not the one that the Hub keeps.
    """
    folder = scratch / f"{source.repository.replace('/', '--')}-{source.commit}"
    for file in source.files:
        what = f"the file {file} of the dataset {source.repository}@{source.commit[:8]}"
        download = partial(hf_hub_download, source.repository, file, repo_type="dataset", revision=source.commit)
        cached = Path(ask_hub(download, what))
        require_digest(cached)
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, target)
    return folder
