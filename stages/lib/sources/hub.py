"""A repository on the Hugging Face Hub at one commit: safetensors, tokenizer and config, nothing else."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from stages.lib.errors import PipelineError
from stages.lib.params import HubSource

# No pickled weights and no Python files: neither is ever loaded here.
WANTED = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"]
WANTED += ["tokenizer*", "special_tokens_map.json", "chat_template*", "vocab.json", "merges.txt"]


def fetch_repository(source: HubSource, scratch: Path) -> Path:
    """Download the repository's model files and return their folder, in the Hub's own cache.

    HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE apply; a download that was cut off goes on.
    Raises PipelineError, with the next step, when the repository or the commit cannot be had.
    """
    name = f"{source.repository}@{source.commit[:8]}"
    try:
        folder = Path(snapshot_download(source.repository, revision=source.commit, allow_patterns=WANTED))
    except GatedRepoError as error:
        status = error.response.status_code if error.response is not None else "no status"
        step = "set HF_TOKEN" if status == 401 else "ask for access on the model's page with the token's account"
        raise PipelineError(f"Expected to read {name}, found a gated repository ({status}); {step}.") from None
    except RevisionNotFoundError:
        raise PipelineError(f"Expected {name} on the Hub, found no such commit; correct params.yaml.") from None
    except RepositoryNotFoundError:
        raise PipelineError(
            f"Expected {name} on the Hub, found no such repository, or a private one; correct params.yaml or HF_TOKEN."
        ) from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"Expected to download {name}, found: {reason}; check the network, then retry.") from None
    if not list(folder.glob("*.safetensors")):
        raise PipelineError(
            f"Expected safetensors weights in {name}, found none; pickled weights are refused: convert them first."
        )
    return folder
