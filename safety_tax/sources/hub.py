"""A model or an adapter on the Hugging Face Hub at one commit: safetensors, tokenizer and config, nothing else."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.progress import progress_bar
from safety_tax.settings.sources import HubSource
from safety_tax.sources.hub_errors import STORED, HubUnreachable, ask_hub, require_digest
from safety_tax.sources.published import SETTINGS, TOKENIZER, brings_code

ADAPTER_CONFIG = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MEGABYTE = 1_000_000


class RemoteFile(NamedTuple):
    """A file as the Hub lists it; `sha256` is None outside of LFS."""

    name: str
    size: int
    sha256: str | None


def fetch_repository(source: HubSource, scratch: Path) -> Path:
    """Download the repository's model or adapter and return a folder with its files alone, links into the Hub's cache.

    HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE apply; a download that was cut off goes on. A whole copy in the
    cache needs no connection. Raises PipelineError, with the next step, when the repository cannot be had, there is no
    room for it, or its files are not what they are to be.
    """
    what = f"{source.repository}@{source.commit[:8]}"
    cached = cached_copy(source, what)
    try:
        files = choose(list_files(source, attempts=1 if cached else 4), what)
    except HubUnreachable:
        if cached is None:
            raise
        say(f"  {what}: the Hub does not answer; taken from the cache")
        for copy in cached:
            require_digest(copy)
        return _gathered(cached, source, scratch)
    require_room(source, files, what)
    # The small ones first: what they say may make the large ones not worth the wait.
    small = [file for file in files if not file.name.endswith(".safetensors")]
    found = _download(source, small, what)
    require_no_code(found, what)
    _require_all_shards(found, [file.name for file in files], what)
    with _progress(source, files, what):
        found = _download(source, files, what)
    return _gathered(found, source, scratch)


def list_files(source: HubSource, attempts: int = 4) -> list[RemoteFile]:
    """What the repository holds at the commit. Raises PipelineError when the Hub does not say."""
    what = f"{source.repository}@{source.commit[:8]}"
    try:
        info = ask_hub(
            lambda: HfApi().model_info(source.repository, revision=source.commit, files_metadata=True, timeout=30),
            what,
            attempts,
        )
        return [
            _remote_file(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
            for sibling in info.siblings or []
        ]
    # The client takes what a server says apart without looking.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PipelineError(
            f"Expected the Hub's list of the files of {what}, found another answer ({str(error)[:80]!r}); check "
            "HF_ENDPOINT, then run again."
        ) from None


def _remote_file(name: str, size: int, digest: str | None) -> RemoteFile:
    """Raises ValueError where the Hub does not say what it should."""
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise ValueError(f"a file {str(name)[:40]!r} of the size {str(size)[:40]}")
    if digest is not None and not (isinstance(digest, str) and STORED.fullmatch(digest)):
        raise ValueError(f"the sha256 {str(digest)[:40]!r} of {name[:40]!r}")
    return RemoteFile(name, size, digest)


def choose(files: Iterable[RemoteFile], what: str) -> list[RemoteFile]:
    """The files that are needed. Raises PipelineError when there are no safetensors weights among them."""
    known = {file.name: file for file in files}
    stem = "adapter_model" if ADAPTER_CONFIG in known else "model"
    weights = [name for name in known if re.fullmatch(rf"{stem}(-\d+-of-\d+)?\.safetensors", name)]
    if f"{stem}.safetensors" in weights:
        weights = [f"{stem}.safetensors"]  # as Transformers does where shards lie beside it
    elif weights:
        weights += [name for name in (f"{stem}.safetensors.index.json",) if name in known]
    else:
        pickled = sorted(name for name in known if name.endswith(PICKLED))
        found = f"pickled {pickled[0]}, which runs code when it is read" if pickled else "none"
        raise PipelineError(
            f"Expected safetensors weights ({stem}*.safetensors) in {what}, found {found}; choose a commit that has "
            "them, or convert the model and give it as a folder."
        )
    beside = [name for name in (*SETTINGS, ADAPTER_CONFIG, *TOKENIZER) if name in known]
    return [known[name] for name in sorted((*beside, *weights))]


def require_no_code(files: Iterable[Path], what: str) -> None:
    """Raises PipelineError when a configuration wants Python code of the repository's own."""
    for file in files:
        if file.name in ("config.json", "tokenizer_config.json") and brings_code(_json(file, what)):
            raise PipelineError(
                f"Expected a model that Transformers itself knows, found `auto_map` in {file.name} of {what}, which "
                "asks to run the repository's own code; choose another model, or a commit without it."
            )


def require_room(source: HubSource, files: list[RemoteFile], what: str) -> None:
    """Raises PipelineError when the cache's disk, or the project's, has no room for what is not there yet."""
    total = sum(file.size for file in files)
    missing = sum(file.size - _present(source, file) for file in files)
    cache, here = _existing(Path(constants.HF_HUB_CACHE)), Path.cwd()
    places = [(cache, missing, "set HF_HOME to a folder on a larger disk")]
    if cache.stat().st_dev != here.stat().st_dev:
        # On one disk the project's copy is a link.
        places.append((here, total, "move the project to a larger disk"))
    for folder, needed, step in places:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise PipelineError(
                f"Expected {needed / 1e9:,.1f} GB of free disk in {folder} for {what}, found {free / 1e9:,.1f}; make "
                f"room, or {step}."
            )


def _download(source: HubSource, files: list[RemoteFile], what: str) -> list[Path]:
    """Paths in the cache, in the order of `files`, their digests checked."""
    names = [file.name for file in files]
    folder = Path(
        ask_hub(lambda: snapshot_download(source.repository, revision=source.commit, allow_patterns=names), what)
    )
    missing = [name for name in names if not (folder / name).exists()]
    if missing:  # the client returns what there is when the Hub stops answering
        raise HubUnreachable(
            f"Expected to download {what}, found no {missing[0]} afterwards; check the network, then run again: it "
            "goes on where it stopped."
        )
    for file in files:
        require_digest(folder / file.name, file.sha256)
    return [folder / name for name in names]


def _require_all_shards(found: Iterable[Path], names: list[str], what: str) -> None:
    """Raises PipelineError when the index names a file that is not among `names`."""
    for index in (file for file in found if file.name.endswith(".index.json")):
        named = _json(index, what).get("weight_map")
        shards = set(map(str, named.values())) if isinstance(named, dict) else {"`weight_map`"}
        if missing := sorted(shards - set(names)):
            raise PipelineError(
                f"Expected every file that {index.name} of {what} names, found no {missing[0]}; choose another commit."
            )


def _json(file: Path, what: str) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"Expected JSON in {file.name} of {what}, found {error}; choose another commit.") from None
    return content if isinstance(content, dict) else {}


def cached_copy(source: HubSource, what: str) -> list[Path] | None:
    """The files of a whole copy in the cache, or None."""
    folder = _storage(source) / "snapshots" / source.commit
    if not folder.is_dir():
        return None
    there = [RemoteFile(file.name, 0, None) for file in folder.iterdir() if file.exists()]
    try:
        names = [file.name for file in choose(there, what)]
        files = [folder / name for name in names]
        _require_all_shards(files, names, what)
        require_no_code(files, what)
    except PipelineError:
        return None
    # Shards without their index are a download that stopped early.
    sharded = any("-of-" in name for name in names)
    whole = {"config.json", ADAPTER_CONFIG} & set(names) and (not sharded or any("index" in name for name in names))
    return files if whole else None


def _storage(source: HubSource) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.repository, repo_type="model")


def _present(source: HubSource, file: RemoteFile) -> int:
    """Bytes of a file that the cache already has."""
    if isinstance(try_to_load_from_cache(source.repository, file.name, revision=source.commit), str):
        return file.size
    if file.sha256:
        for stored in (_storage(source) / "blobs" / name for name in (file.sha256, f"{file.sha256}.incomplete")):
            if stored.exists():
                return min(stored.stat().st_size, file.size)
    return 0


@contextmanager
def _progress(source: HubSource, files: list[RemoteFile], what: str) -> Iterator[None]:
    """A bar in megabytes, by what lies in the cache: whichever way the client brings it."""
    total = sum(file.size for file in files)
    done = Event()
    with progress_bar() as progress:
        task = progress.add_task(f"fetching {what}", total=-(-total // MEGABYTE), unit="MB")

        def watch() -> None:
            while not done.wait(0.5):
                progress.update(task, completed=sum(_present(source, file) for file in files) // MEGABYTE)

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            progress.update(task, completed=-(-total // MEGABYTE))
        finally:
            done.set()
            watcher.join()


def _gathered(files: Iterable[Path], source: HubSource, scratch: Path) -> Path:
    """A folder with these files alone: the cache may hold others of the same commit, which another program wanted."""
    folder = scratch / f"{source.repository.replace('/', '--')}-{source.commit}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            (folder / file.name).symlink_to(file.resolve())
        except OSError:  # a system without links
            shutil.copyfile(file, folder / file.name)
    return folder


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
