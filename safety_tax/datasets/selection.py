"""Which items every model is asked, and which rows donors are tuned on: read, split, ordered and cut."""

import hashlib
import importlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import ValidationError

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import KINDS, OPTIONAL, PROMPT, AnyPrompt, ChoiceQuestion, Kind, Split
from safety_tax.datasets.declared import read_declared
from safety_tax.datasets.item import Item
from safety_tax.datasets.jailbreak_texts import with_goal
from safety_tax.datasets.leakage import common_ngrams, leaking, require_apart
from safety_tax.settings.catalog import Model
from safety_tax.settings.data import Dataset, FetchData, SampleSizes
from safety_tax.settings.sources import GeneratedSource, HubDatasetSource
from safety_tax.sources import fetch


class Chosen(Protocol):
    """What of `params.yaml` decides the items; `Params` is one."""

    @property
    def models(self) -> list[str]:
        """Names in the catalogue."""

    @property
    def fetch_data(self) -> FetchData:
        """The stage's section."""

    def datasets(self) -> dict[str, Dataset]:
        """By name, those that are asked."""

    def sample_sizes(self) -> SampleSizes:
        """How many items of each kind."""

    def model(self, name: str) -> Model:
        """A catalogue entry."""


class Found(NamedTuple):
    """What the datasets hold: items by kind, and the solved examples of some kinds, each with its dataset's name."""

    items: dict[Kind, list[tuple[str, Item]]]
    shots: dict[Kind, list[tuple[str, Item]]]


def read_dataset(name: str, dataset: Dataset, place: Any) -> tuple[list[Item], list[Item]]:
    """Items of a dataset, and solved examples where its reader has some."""
    if dataset.table:
        files = dataset.source.files if isinstance(dataset.source, HubDatasetSource) else []
        return read_declared(place, dataset.kind, dataset.table, files), []
    reader = importlib.import_module(f"safety_tax.datasets.{name}")
    return reader.read(place), reader.read_shots(place) if hasattr(reader, "read_shots") else []


def read_datasets(datasets: Mapping[str, Dataset]) -> Found:
    """Fetch and read every dataset. Raises PipelineError when one has no rows."""
    found: dict[Kind, list[tuple[str, Item]]] = {kind: [] for kind in KINDS}
    shots: dict[Kind, list[tuple[str, Item]]] = defaultdict(list)
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        for name, dataset in datasets.items():
            source = dataset.source
            place = source if isinstance(source, GeneratedSource) else fetch(source, Path(scratch))
            try:
                items, examples = read_dataset(name, dataset, place)
                shots[dataset.kind] += [(name, item) for item in examples]
                require_texts(items)
                require_checkable(dataset.kind, items)
                for item in [*examples, *items]:
                    as_row(dataset.kind, name, item, "eval")
            except (KeyError, ValueError, OSError, TypeError, AttributeError, IndexError, RecursionError) as error:
                said = (isinstance(error, OSError) and str(error)) or repr(error)  # the one names the file
                raise PipelineError(
                    f"Expected the rows of dataset {name!r} in the format its reader knows, found {said}; "
                    "check its source in params.yaml, or what reads it."
                ) from None
            items = [item for item in items if item.text]
            if not items:
                raise PipelineError(
                    f"Expected rows in dataset {name!r}, found none; check its source in params.yaml, or the `where` "
                    "of a table."
                )
            say(f"  {name}: {len(items):,} rows")
            found[dataset.kind] += [(name, item) for item in items]
    return Found(found, shots)


def require_texts(items: Iterable[Item]) -> None:
    """Raises TypeError where a group, a text or an option is none (JSON holds other things, too), ValueError where an
    option is blank: it has no token to score.
    """
    for item in items:
        texts = [item.group, item.text, *(item.choices or [])]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"a row whose texts are {str(texts)[:80]}")
        if not all(choice.strip() for choice in item.choices or []):
            raise ValueError(f"a blank option of the question {item.text[:80]}")


def require_checkable(kind: Kind, items: Iterable[Item]) -> None:
    """Raises ValueError where a problem has no right answer, or an instruction nothing to verify."""
    for item in items:
        if kind == "problem" and not (isinstance(item.answer, str) and item.answer.strip()):
            raise ValueError(f"no right answer to the problem {item.text[:80]}")
        if kind == "instruction" and not item.checks:
            raise ValueError(f"nothing to verify of the instruction {item.text[:80]}")


def fraction(seed: int, purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on the arguments alone: the same on every machine."""
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def as_row(kind: Kind, benchmark: str, item: Item, split: Split) -> AnyPrompt:
    """The item with its id, as the type of its kind. Raises ValueError when it lacks what its kind has, or has more."""
    fields = {key: value for key, value in item._asdict().items() if value is not None}
    try:
        return PROMPT.validate_python({"id": item.id(), "benchmark": benchmark, "kind": kind, "split": split, **fields})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{fault['msg']}: {fault['loc'][-1]!r} of the {kind} item {item.text[:80]}") from None


def as_prompts(kind: Kind, items: list[tuple[str, Item]], params: FetchData) -> list[AnyPrompt]:
    """Give items their id and split; of items with equal ids the first stays. Kinds without a share are held out."""
    share: float = params.tune_share.model_dump().get(kind, 0.0)
    prompts: dict[str, AnyPrompt] = {}
    for benchmark, item in items:
        row = as_row(kind, benchmark, item, "eval")
        # A benign prompt without an answer cannot be tuned on.
        tunable = kind != "benign" or item.answer
        if tunable and fraction(params.seed, "split", row.id) < share:
            row = row.model_copy(update={"split": "tune"})
        prompts.setdefault(row.id, row)
    return list(prompts.values())


def in_nested_order(prompts: list[AnyPrompt], seed: int) -> list[AnyPrompt]:
    """Order prompts so that every prefix holds each group in proportion."""
    groups: dict[str, list[AnyPrompt]] = defaultdict(list)
    for prompt in prompts:
        groups[prompt.group].append(prompt)
    places: list[tuple[float, float, AnyPrompt]] = []
    for members in groups.values():
        members.sort(key=lambda prompt: fraction(seed, "order", prompt.id))
        for rank, prompt in enumerate(members):
            places.append(((rank + 0.5) / len(members), fraction(seed, "tie", prompt.id), prompt))
    return [prompt for _, _, prompt in sorted(places, key=lambda place: place[:2])]


def compose_jailbreaks(texts: list[tuple[str, Item]], goals: list[AnyPrompt], params: FetchData) -> list[AnyPrompt]:
    """Put one harmful goal into each jailbreak text that is short enough."""
    items = []
    for benchmark, item in texts:
        if len(item.text) <= params.jailbreak_characters:
            goal = goals[int(fraction(params.seed, "goal", item.id()) * len(goals))]
            items.append((benchmark, item._replace(text=with_goal(item.text, goal.text))))
    return as_prompts("jailbreak", items, params)


def as_shots(kind: Kind, shots: list[tuple[str, Item]]) -> list[AnyPrompt]:
    """Solved examples as rows, in their own order; MMLU's dev split has one of its questions twice."""
    return [as_row(kind, benchmark, item, "tune") for benchmark, item in shots]


def not_shown(prompts: list[AnyPrompt], shots: list[AnyPrompt]) -> list[AnyPrompt]:
    """The problems that are no worked example."""
    shown = {shot.id for shot in shots}
    kept = [prompt for prompt in prompts if prompt.id not in shown]
    if len(kept) < len(prompts):
        say(f"  problem: {len(prompts) - len(kept):,} dropped that are worked examples, too")
    return kept


def short_enough(prompts: list[AnyPrompt], most: int | Literal["all"]) -> list[AnyPrompt]:
    """The choice items whose question and options have at most so many characters together."""
    if most == "all":
        return prompts
    questions = [prompt for prompt in prompts if isinstance(prompt, ChoiceQuestion)]
    return [asked for asked in questions if len(asked.text) + sum(map(len, asked.choices)) <= most]


def sample(kind: Kind, held: list[AnyPrompt], everything: Chosen) -> list[AnyPrompt]:
    """The items of a kind that the chosen size asks. Raises PipelineError when there are not so many.

    The limit on a question's characters comes after the order, so that a size with one is a part of a bigger size
    without: as long as enough of the bigger one's questions are short.
    """
    sizes = everything.sample_sizes()
    ordered, limit = in_nested_order(held, everything.fetch_data.seed), ""
    if kind == "choice":
        ordered = short_enough(ordered, sizes.choice_characters)
        limit = f" of at most {sizes.choice_characters} characters" if sizes.choice_characters != "all" else ""
    if not ordered:
        names = [name for name, dataset in everything.datasets().items() if dataset.kind == kind]
        raise PipelineError(
            f"Expected {kind} items{limit} in the benchmark set, found none in {', '.join(names) or 'its datasets'}; "
            "correct `benchmark_sets`, the datasets or `sizes` in params.yaml."
        )
    size = getattr(sizes, kind)
    wanted = len(ordered) if size == "all" else size
    if not 0 < wanted <= len(ordered):
        raise PipelineError(
            f"Expected between 1 and {len(ordered):,} {kind} items{limit}, found {wanted:,} in `sizes` of "
            "params.yaml; choose a number in that range, or 'all'."
        )
    return ordered[:wanted]


def of_one_kind(rows: Mapping[Kind, list[AnyPrompt]]) -> dict[Kind, list[AnyPrompt]]:
    """The rows without those whose text is an item of an earlier kind, too: an answer belongs to one item."""
    seen: set[str] = set()
    kept: dict[Kind, list[AnyPrompt]] = {}
    for kind, prompts in rows.items():
        kept[kind] = [prompt for prompt in prompts if prompt.id not in seen]
        seen |= {prompt.id for prompt in prompts}
        if len(kept[kind]) < len(prompts):
            say(f"  {kind}: {len(prompts) - len(kept[kind]):,} dropped whose text is an item of another kind, too")
    return kept


def require_shots(shots: list[AnyPrompt], questions: list[AnyPrompt], everything: Chosen) -> None:
    """Raises PipelineError when a chosen model wants more shots than a subject has."""
    there = Counter(shot.group for shot in shots if shot.kind == "choice")
    for model in everything.models:
        wanted = everything.model(model).shots
        for subject in sorted({question.group for question in questions}):
            if there[subject] < wanted:
                raise PipelineError(
                    f"Expected {wanted} dev questions about {subject} for the shots of {model}, found {there[subject]} "
                    f"in its benchmarks; choose a set with a dev split, or set catalog.{model}.shots to 0."
                )


def select(everything: Chosen) -> dict[str, list[AnyPrompt]]:
    """All rows, by the name of their file. Raises PipelineError when a size asks for more items than there are."""
    params, sizes = everything.fetch_data, everything.sample_sizes()
    items, dev = read_datasets(everything.datasets())
    shots = [shot for kind in KINDS for shot in as_shots(kind, dev[kind])]
    prompts: dict[Kind, list[AnyPrompt]] = {}
    held: dict[Kind, list[AnyPrompt]] = {}
    for kind in KINDS:
        if kind != "jailbreak":
            prompts[kind] = as_prompts(kind, items[kind], params)
            held[kind] = [prompt for prompt in prompts[kind] if prompt.split == "eval"]
    held["jailbreak"] = compose_jailbreaks(items["jailbreak"], held["harmful"], params)
    held["problem"] = not_shown(held["problem"], shots)
    held = of_one_kind(held)
    everything_held = [prompt for rows in held.values() for prompt in rows]

    tune = [p for rows in prompts.values() for p in in_nested_order(rows, params.seed) if p.split == "tune"]
    words = params.leakage_words
    common = common_ngrams([*tune, *everything_held], words, params.boilerplate_documents)
    leaks = {row for row, _ in leaking(tune, everything_held, words, common)}
    tune = [prompt for prompt in tune if prompt.id not in leaks]
    require_apart(tune, everything_held, words, common)
    say(f"  tuning rows: {len(tune):,} kept, {len(leaks):,} dropped that share words with an evaluation item")

    selected: dict[str, list[AnyPrompt]] = {"tune": tune, "shots": shots}
    for kind in KINDS:
        held_by_set = any(dataset.kind == kind for dataset in everything.datasets().values())
        asked = kind not in OPTIONAL or (held_by_set and getattr(sizes, kind) != 0)
        selected[kind] = sample(kind, held[kind], everything) if asked else []
    require_shots(shots, selected["choice"], everything)
    return selected
