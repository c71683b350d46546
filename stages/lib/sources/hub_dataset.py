"""Named files of a dataset on the Hugging Face Hub at one commit."""

import shutil
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from stages.lib.errors import PipelineError
from stages.lib.params import HubDatasetSource


def fetch_dataset(source: HubDatasetSource, scratch: Path) -> Path:
    """Download the named files and return a folder that holds these alone, at their places in the repository.

    HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE apply. Raises PipelineError, with the next step, when the
    repository, the commit or a file cannot be had.
    """
    name = f"the dataset {source.repository}@{source.commit[:8]}"
    folder = scratch / f"{source.repository.replace('/', '--')}-{source.commit}"
    for file in source.files:
        try:
            cached = hf_hub_download(source.repository, file, repo_type="dataset", revision=source.commit)
        except GatedRepoError as error:
            status = error.response.status_code if error.response is not None else "no status"
            step = "set HF_TOKEN" if status == 401 else "ask for access on its page with the token's account"
            raise PipelineError(f"Expected to read {name}, found it gated ({status}); {step}.") from None
        except RevisionNotFoundError:
            raise PipelineError(f"Expected {name} on the Hub, found no such commit; correct params.yaml.") from None
        except RepositoryNotFoundError:
            raise PipelineError(
                f"Expected {name} on the Hub, found no such dataset, or a private one; correct params.yaml or HF_TOKEN."
            ) from None
        except LocalEntryNotFoundError:
            raise PipelineError(
                f"Expected to download {file} of {name}, found no connection and no copy in the cache; "
                "check the network, or HF_ENDPOINT and HF_HUB_OFFLINE, then retry."
            ) from None
        except EntryNotFoundError:
            raise PipelineError(
                f"Expected the file {file} in {name}, found none; correct `files` or `commit` in params.yaml."
            ) from None
        except (OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise PipelineError(f"Expected to download {file} of {name}, found: {reason}; then retry.") from None
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, target)
    return folder
