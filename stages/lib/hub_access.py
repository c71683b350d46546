"""Whether the Hub gives what params.yaml names to this machine's token, and how large it is; nothing is downloaded."""

from functools import partial

from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

from stages.lib.errors import PipelineError
from stages.lib.machine import GIGABYTE, Finding
from stages.lib.params import HubDatasetSource, HubSource
from stages.lib.sources.hub import choose, list_files
from stages.lib.sources.hub_errors import ask_hub


def check_model(name: str, source: HubSource) -> tuple[Finding, int]:
    """A model or donor at its commit, with its bytes; a gated file is asked for, since the listing of one is open."""
    what = f"{source.repository}@{source.commit[:8]}"
    try:
        files = choose(list_files(source, attempts=1), what)
        _require_readable(source.repository, source.commit, files[0].name, "model", what)
    except PipelineError as error:
        return Finding(name, "not to be had", what, str(error)), 0
    size = sum(file.size for file in files)
    return Finding(name, f"on the Hub, {size / GIGABYTE:,.1f} GB{_by_token()}", what), size


def check_dataset(name: str, source: HubDatasetSource) -> Finding:
    """The named files of a dataset at its commit."""
    what = f"{source.repository}@{source.commit[:8]}"
    try:
        for file in source.files:
            _require_readable(source.repository, source.commit, file, "dataset", f"{file} of the dataset {what}")
    except PipelineError as error:
        return Finding(name, "not to be had", what, str(error))
    return Finding(name, f"on the Hub{_by_token()}", what)


def _require_readable(repository: str, commit: str, file: str, kind: str, what: str) -> None:
    url = hf_hub_url(repository, file, repo_type=kind, revision=commit)
    ask_hub(partial(get_hf_file_metadata, url), what, attempts=1)


def _by_token() -> str:
    return ", token set" if get_token() else ""
