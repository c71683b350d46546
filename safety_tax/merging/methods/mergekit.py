"""A configuration of mergekit, read and computed here."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import ml_dtypes
import numpy as np
from pydantic import model_validator

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Tensor
from safety_tax.core.workspace import MERGES
from safety_tax.donors.checks import require_same_vocabulary
from safety_tax.donors.fetching import open_source, weights_of
from safety_tax.donors.opening import Donor, open_donor
from safety_tax.merging.bench import Bench
from safety_tax.merging.mergekit.operands import Operands
from safety_tax.merging.mergekit.plan import Step, plan
from safety_tax.merging.mergekit.reading import ADAPTER, Config, read_config, read_file
from safety_tax.merging.recipe import Whole, WholeRecipe
from safety_tax.settings.donors import DonorSource, MayDiffer
from safety_tax.settings.section import Seed
from safety_tax.settings.sources import FolderSource, HubSource, Source

BASE = "base"
PINNED = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@([0-9a-f]{40})")
PATHS = ("./", "../", "/", "~")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[^@]*)?")
DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


class Mergekit(WholeRecipe):
    """What a mergekit configuration says, computed here: the tensors of mergekit 0.1.5 within its rounding.

    `config` is the configuration itself, or the name of a file in data/merges. `names` says what a name in it stands
    for: `base`, a donor of `donors`, or a source. A name that is not there is the base's repository, a folder, or a
    repository on the Hub at a commit: `owner/name@commit`. Each model must fit the base as a donor must.

    Random choices (dare, della) are drawn by this project's seed, not by mergekit's generator.
    """

    remedy: ClassVar[str] = "correct the mergekit configuration: there is nothing to measure"
    method: Literal["mergekit"]
    config: str | dict[str, Any]
    names: dict[str, str | DonorSource] = {}  # noqa: RUF012 (pydantic copies it)
    may_differ: MayDiffer
    seed: Seed = 0

    @model_validator(mode="after")
    def _holds_together(self) -> "Mergekit":
        if isinstance(self.config, str) and (Path(self.config).name != self.config or "\n" in self.config):
            raise ValueError(
                f"config is the text {self.config[:40]!r}; write mergekit's keys below it, or the name of a file in "
                f"{MERGES}"
            )
        try:
            models = self.parsed.models()
        except ValueError as error:
            raise ValueError(f"{self._where}: {error}") from None
        named = dict.fromkeys(part for name in models for part in (name, *_parts(name)))
        for name in self.names:
            if name not in named:
                raise ValueError(f"names has {name!r}, which {self._where} does not name: {', '.join(named)}")
        return self

    @property
    def _where(self) -> str:
        """The configuration, for a person."""
        return "config" if isinstance(self.config, dict) else str(MERGES / self.config)

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The configuration as it is written."""
        return self.config if isinstance(self.config, dict) else read_file(MERGES / self.config)

    @cached_property
    def parsed(self) -> Config:
        """The configuration, checked."""
        return read_config(self.content)

    def settings(self) -> dict[str, Any]:
        """With the content of the configuration's file in place of its name."""
        return super().settings() | {"config": self.content}

    def reads(self) -> list[str]:
        """The donors that stand for a name."""
        return sorted({name for name in self.names.values() if isinstance(name, str) and name != BASE})

    def sources(self, model: str, base: Source) -> dict[str, HubSource | FolderSource]:
        """The models that are neither the base nor donors, by their names in the configuration."""
        found: dict[str, HubSource | FolderSource] = {}
        for name in self.parsed.models():
            self._require_over_base(name, base)
            known = self._named(name) or (BASE if _is_base(name, base) else _source(_parts(name)[-1], self._where))
            if not isinstance(known, str):
                found[name] = known
        return found

    def _named(self, name: str) -> str | DonorSource | None:
        """What `names` says that a model stands for; of `base+adapter`, what it says of the adapter."""
        return self.names.get(name) or self.names.get(_parts(name)[-1])

    def _require_over_base(self, name: str, base: Source) -> None:
        """Raises ValueError for `model+adapter` where the model is not the base: donors are the base's."""
        model, *adapter = _parts(name)
        if adapter and name not in self.names and self.names.get(model) != BASE and not _is_base(model, base):
            raise ValueError(
                f"{self._where} names {name!r}, and {model!r} is not the base; write `names: {{{model}: base}}` if it "
                "is, or merge the adapter into it, save that as safetensors and name its folder"
            )

    def held(self) -> int:
        """The most that one tensor is merged from."""
        return max(len(part.sources) for part in self.parsed.slices)

    def whole(self, bench: Bench) -> Whole:
        """Its tensors, in the type that mergekit writes."""
        try:
            steps = plan(self.parsed, bench.base.names())
        except ValueError as error:
            raise PipelineError(
                f"Expected the mergekit configuration of recipe {bench.recipe!r} to fit {bench.model}, found: {error}."
            ) from None
        if self.parsed.unread:
            say(f"  {bench.recipe}: {self.parsed.method.name} reads no {', '.join(self.parsed.unread)}")
        models, inputs = self._open(bench)
        return Whole(lambda name: self._merged(name, steps[name], models, bench), inputs)

    def _open(self, bench: Bench) -> tuple[dict[str, Donor], list[Path]]:
        """The models by their names in the configuration, but for the base, and their files."""
        models: dict[str, Donor] = {}
        inputs: list[Path] = []
        for name in self.parsed.models():
            donor = self._named(name)
            if isinstance(donor, str) and donor != BASE:
                folder = bench.donors / donor
                models[name] = open_donor(folder, bench.base)
                require_same_vocabulary(bench.base.path, folder)
                inputs.append(folder)
        for number, (name, source) in enumerate(bench.sources.items()):
            folder = bench.scratch / f"{number}"
            models[name] = open_source(source, bench.recipe, bench.base, folder, self.may_differ)
            inputs += weights_of(folder)
        return models, inputs

    def _merged(self, name: str, step: Step, models: Mapping[str, Donor], bench: Bench) -> Tensor:
        config = self.parsed
        tensors = [
            models[term.model].whole(term.tensor) if term.model in models else bench.base.read(term.tensor)
            for term in step.terms
        ]
        if config.dtype:
            tensors = [tensor.astype(DTYPES[config.dtype], copy=False) for tensor in tensors]
        own = [term.own for term in step.terms]
        merged = config.method.merge(Operands(name, tensors, step.base, step.shared, own, self.seed))
        kinds = {tensor.dtype for tensor in tensors}
        widest = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
        return merged.astype(DTYPES[config.out_dtype] if config.out_dtype else widest, copy=False)


def _is_base(name: str, base: Source) -> bool:
    """Whether a name is that of the repository, or the folder, that the catalogue's model comes from."""
    repository, _, commit = name.partition("@")
    if isinstance(base, HubSource):
        return repository == base.repository and commit in ("", base.commit)
    return isinstance(base, FolderSource) and _whole(name) == _whole(base.path)


def _parts(name: str) -> list[str]:
    """A model, and the adapter that is merged into it; a folder may have the sign between them in its name."""
    return [name] if Path(name).expanduser().is_dir() else name.split(ADAPTER, 1)


def _whole(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _source(name: str, where: str) -> HubSource | FolderSource:
    """What a name stands for that is not in `names`. Raises ValueError for a repository without a commit.

    That a folder is not here is said when it is fetched: another machine may want its results alone.
    """
    if pinned := PINNED.fullmatch(name):
        return HubSource(kind="hub", repository=pinned[1], commit=pinned[2])
    if name.startswith(PATHS) or Path(name).is_dir():
        return FolderSource(kind="folder", path=name)
    if REPOSITORY.fullmatch(name):
        repository = name.partition("@")[0]
        raise ValueError(
            f"{where} names {name!r}, without the commit that its files are of; write {repository}@ and the 40 digits "
            f"of one, `names: {{{name}: base}}` where it is the base, or ./{name} where it is a folder"
        )
    raise ValueError(
        f"{where} names {name!r}, which is no folder here; write what it stands for: `names: {{{name}: …}}` with "
        "`base`, a donor, or {kind: folder, path: …}"
    )
