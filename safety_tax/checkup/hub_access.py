"""Whether the Hub gives what params.yaml names to this machine's token, and how large it is; nothing is downloaded."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from requests import RequestException

from safety_tax.checkup.machine import GIGABYTE, Finding
from safety_tax.core.errors import PipelineError
from safety_tax.settings.sources import HubDatasetSource, HubSource
from safety_tax.sources.hub import cached_copy, choose, list_files, require_room
from safety_tax.sources.hub_errors import HubUnreachable, ask_hub


def check_model(name: str, source: HubSource) -> tuple[Finding, int]:
    """A model or donor at its commit, with its bytes; a gated file is asked for, since the listing of one is open."""
    what = f"{source.repository}@{source.commit[:8]}"
    size = 0
    try:
        files = choose(list_files(source, attempts=1), what)
        size = sum(file.size for file in files)
        _require_readable(source.repository, source.commit, files[0].name, "model", what)
        require_room(source, files, what)
    except HubUnreachable as error:
        cached = cached_copy(source, what)
        if cached is None:
            return Finding(name, "not to be had", what, str(error)), 0
        return Finding(name, "in the Hub's cache; the Hub does not answer", what), sum(_sizes(cached))
    except PipelineError as error:
        return Finding(name, "not to be had", what, str(error)), size
    return Finding(name, f"on the Hub, {size / GIGABYTE:,.1f} GB{_by_token()}", what), size


def read_config(source: HubSource) -> Path:
    """The model's config.json, a few hundred bytes in the Hub's cache. Raises PipelineError."""
    what = f"config.json of {source.repository}@{source.commit[:8]}"
    return Path(
        ask_hub(partial(hf_hub_download, source.repository, "config.json", revision=source.commit), what, attempts=1)
    )


def check_token() -> Finding:
    """Whose the token is and what it may do, as the Hub says; a mirror need not say."""
    needed = f"gated repositories only, of {constants.ENDPOINT}"
    token = get_token()
    if token is None:
        return Finding("Hub token", "none set", needed)
    try:
        account = HfApi().whoami(token)
    except (RequestException, OSError, ValueError) as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            return Finding("Hub token", "unknown to the Hub (401)", needed, "correct HF_TOKEN, or unset it")
        return Finding("Hub token", "set; what it may do this Hub does not say", needed)
    granted = account.get("auth", {}).get("accessToken", {})
    scope = granted.get("role", "of unknown scope")
    if fine := granted.get("fineGrained"):
        rights = sorted({right for place in fine.get("scoped", []) for right in place.get("permissions", [])})
        gated = "with" if fine.get("canReadGatedRepos") else "without"
        scope += f" ({', '.join(rights) or 'no rights'}; {gated} gated repositories)"
    return Finding("Hub token", f"of {account.get('name', 'an account')}, {scope}", needed)


def check_dataset(name: str, source: HubDatasetSource) -> Finding:
    """The named files of a dataset at its commit."""
    what = f"{source.repository}@{source.commit[:8]}"
    try:
        for file in source.files:
            try:
                _require_readable(source.repository, source.commit, file, "dataset", f"{file} of the dataset {what}")
            except HubUnreachable:
                if not isinstance(_cached_file(source, file), str):
                    raise
    except PipelineError as error:
        return Finding(name, "not to be had", what, str(error))
    return Finding(name, f"to be had{_by_token()}", what)


def _require_readable(repository: str, commit: str, file: str, kind: str, what: str) -> None:
    url = hf_hub_url(repository, file, repo_type=kind, revision=commit)
    ask_hub(partial(get_hf_file_metadata, url), what, attempts=1)


def _cached_file(source: HubDatasetSource, file: str) -> object:
    return try_to_load_from_cache(source.repository, file, revision=source.commit, repo_type="dataset")


def _sizes(files: Iterable[Path]) -> Iterator[int]:
    return (file.stat().st_size for file in files if file.suffix == ".safetensors")


def _by_token() -> str:
    return ", token set" if get_token() else ""
