"""A merge that exists, measured as it is."""

from typing import ClassVar, Literal

from safety_tax.donors.fetching import open_source, weights_of
from safety_tax.merging.bench import Bench
from safety_tax.merging.recipe import Whole, WholeRecipe
from safety_tax.settings.donors import MayDiffer, SourceByModel, source_for
from safety_tax.settings.sources import FolderSource, HubSource, Source


class Given(WholeRecipe):
    """The model at `source`, whatever made it: no arithmetic, its tensors rounded to the catalogue's dtype alone.

    It must fit the base as a donor must: the same tensors, the same vocabulary, and a config.json that makes the same
    of them. Tokenizer, configuration and chat template are the base's.
    """

    remedy: ClassVar[str] = "name another source in params.yaml: there is nothing to measure"
    method: Literal["given"]
    source: SourceByModel
    may_differ: MayDiffer

    def reads(self) -> list[str]:
        """No donors."""
        return []

    def sources(self, model: str, base: Source) -> dict[str, HubSource | FolderSource]:
        """The one of that model."""
        source = source_for(self.source, model, "given merge")
        return {source.repository if isinstance(source, HubSource) else source.path: source}

    def held(self) -> int:
        """Itself."""
        return 1

    def whole(self, bench: Bench) -> Whole:
        """Its tensors as they are stored."""
        (source,) = bench.sources.values()
        folder = bench.scratch / bench.recipe
        found = open_source(source, bench.recipe, bench.base, folder, self.may_differ)
        return Whole(found.whole, weights_of(folder))
