"""Tiny models of the three architectures, and a copy of the project that runs on them."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import warm
import yaml
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from safety_tax.core.rows import GENERATED
from safety_tax.core.tensor_files import Checkpoint, write_alike, write_checkpoint
from safety_tax.settings.stages import Export

# Credentials as a person has them in the environment, each one recognised wherever it should not be.
SECRETS = {
    name: f"canary-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    )
}
ROOT = Path(__file__).parent.parent
# Workers of pytest-xdist share the cores out, for themselves and for what they start: more threads than cores wait for
# each other in torch's loops.
WORKER, WORKERS = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKER and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[int(WORKER[2:]) % len(cores) :: WORKERS])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXPORT = Export(opset=18, parity_prompts=2, parity_tolerance=1e-3, parity_tolerance_float16=0.1, grouped_query=True)
SIZES = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
ARCHITECTURES: dict[str, Callable[[], torch.nn.Module]] = {
    "tiny_llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "tiny_mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, tie_word_embeddings=False, sliding_window=None)),
    "tiny_qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False)),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker begins with the reproduced project; files that wait for it come when it is there, short ones last.

    Whole files go to a worker (`--dist loadfile`), in this order.
    """
    waiting = {item.path for item in items if "reproduced" in getattr(item, "fixturenames", ())}

    def place(item: pytest.Item) -> int:
        name = item.path.name
        return 0 if name == "test_pipeline.py" else 2 if item.path in waiting else 1 if name < "test_k" else 3

    items.sort(key=place)


def benign_rows() -> list[dict[str, str]]:
    """The project's own benign prompts with their answers."""
    files = sorted((ROOT / "data/prompts").glob("benign*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 600 tokens, fitted to the benign rows, with a chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((row["text"] + " " + row["answer"] for row in benign_rows()), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def fit_to_answers(model: Any, tokenizer: PreTrainedTokenizerFast, steps: int = 150) -> None:
    """A few seconds of training, so that the tiny model writes words: a judge calls noise degenerate."""
    texts = []
    for row in benign_rows():
        turns = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["answer"]}]
        texts.append(tokenizer.apply_chat_template(turns, tokenize=False))
    ids = tokenizer(texts, padding=True, truncation=True, max_length=96, return_tensors="pt", add_special_tokens=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        rows = torch.arange(16) + 16 * step
        rows %= len(texts)
        batch = ids["input_ids"][rows]
        labels = batch.masked_fill(ids["attention_mask"][rows] == 0, -100)
        loss = model(input_ids=batch, attention_mask=ids["attention_mask"][rows], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills: once in a run, however many processes (pytest-xdist's workers) share it."""
    base = factory.getbasetemp()
    folder = (base.parent if WORKER else base) / name
    done = folder.with_name(f"{name}.done")
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            folder.mkdir()  # raises where another worker failed: its error says why
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """Name -> folder of a two-layer model in the Hub's layout."""

    def make(folder: Path) -> None:
        for seed, (name, build) in enumerate(ARCHITECTURES.items()):
            torch.manual_seed(seed)
            model = build()
            fit_to_answers(model, tokenizer)
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)

    folder = made_once(tmp_path_factory, "tiny_models", make)
    return {name: folder / name for name in ARCHITECTURES}


def stored_as(weights: Path, folder: Path, dtype: str, shard_bytes: int) -> Path:
    """The same model with its tensors in another type, and in files of at most so many bytes."""
    checkpoint = Checkpoint(weights)
    folder.mkdir()
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    write_checkpoint(folder, shapes, np.dtype(dtype), checkpoint.read, shard_bytes)
    for file in weights.iterdir():
        if "safetensors" not in file.name:
            shutil.copyfile(file, folder / file.name)
    return folder


def change_numbers(folder: Path, change: Callable[[str, Any], Any]) -> None:
    """Give the tensors in `folder` other numbers, in new files with the headers of the old ones."""
    checkpoint = Checkpoint(folder)
    for file in checkpoint.files:
        write_alike(file, checkpoint, lambda name: change(name, checkpoint.read(name)), file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)


def real_params() -> dict[str, Any]:
    """The project's own params.yaml."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return params


def tiny_params(folders: dict[str, Path]) -> dict[str, Any]:
    """params.yaml for tiny models: every section real, the numbers small."""
    params = real_params()
    entry = {"dtype": "float32", "chat_template": "own", "stop": [], "benchmarks": "default", "shots": 0}
    entry |= {"problem_format": "chat", "max_new_tokens": {}, "lora_targets": ["q_proj", "v_proj", "down_proj"]}
    params["catalog"] = {
        name: {
            **entry,
            "source": {"kind": "folder", "path": str(folder)},
            "utility_format": "letter" if name in ("tiny_mistral", "tiny_qwen2") else "continuation",
        }
        for name, folder in folders.items()
    }
    params["models"] = list(folders)
    params["sizes"]["quick"] |= {"harmful": 12, "jailbreak": 4, "benign": 10, "choice": 60, "other_format": 20}
    params["donors"]["safety"] |= {"harmful": 40, "benign": 16, "epochs": 3}
    params["donors"]["utility"] |= {"choice": 40, "epochs": 2}
    params["recipes"] = {name: params["recipes"][name] for name in ("safety_donor", "ties")}
    params["tune"] |= {"learning_rate": 0.01, "rank": 4, "alpha": 8, "precision": "float32"}
    params["infer"]["max_new_tokens"] = dict.fromkeys(GENERATED, 12)
    params["run"]["provider"] = "cpu"
    return params


def stages_of(told: str) -> list[str]:
    """The stages that `dvc repro` or `dvc exp run` says it ran."""
    return [line.split("'")[1] for line in told.splitlines() if line.startswith("Running stage ")]


class Project:
    """A copy of the project with its own DVC cache and Git history; a folder that holds one is taken as it is."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        self.folder = folder
        self.params = params
        self.ran: list[str] = []
        self.told = ""
        if not (folder / "dvc.yaml").exists():
            self._make()

    def _make(self) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copyfile(ROOT / name, folder / name)
        for name in ("stages", "safety_tax"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("prompts", "chat_templates"):
            shutil.copytree(ROOT / "data" / name, folder / "data" / name)
        for name in ("labels", "merges"):
            (folder / "data" / name).mkdir()
            (folder / "data" / name / ".gitkeep").touch()
        (folder / ".dvc").mkdir()
        for name in ("config", ".gitignore", "must_be_mappings.yaml", "offline.html"):
            shutil.copyfile(ROOT / ".dvc" / name, folder / ".dvc" / name)
        self.write_params(self.params)
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.run("git", "config", "user.email", "test@localhost")
        self.run("git", "config", "user.name", "test")

    def write_params(self, params: dict[str, Any]) -> None:
        """Replace params.yaml; a recipe is one line of it, as in the project's own."""
        self.params = params
        others = {key: value for key, value in params.items() if key != "recipes"}
        lines = [yaml.safe_dump(others, sort_keys=False), "recipes:\n"]
        for name, recipe in params["recipes"].items():
            lines.append(f"  {name}: {yaml.safe_dump(recipe, sort_keys=False, default_flow_style=True, width=10**6)}")
        (self.folder / "params.yaml").write_text("".join(lines), encoding="utf-8")

    def run(self, *command: str, status: int = 0, secrets: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run a command in the project and return what it printed; its exit status must be `status`."""
        # dvc.yaml says `python`, which is this environment's.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, **secrets}
        if warm.can_fork(environment):
            environment["PATH"] = f"{warm.server()}{os.pathsep}{path}"
        if command[0] == sys.executable:
            result = warm.python(*command[1:], cwd=self.folder, env=environment, timeout=900)
        else:
            result = subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=900
            )
        output = result.stdout + result.stderr
        assert result.returncode == status, output[-4000:]
        return output

    def stage(self, *arguments: str, status: int = 0) -> str:
        """Run `python -m stages...` in the project."""
        return self.run(sys.executable, "-m", *arguments, status=status)

    def dvc(self, *arguments: str, status: int = 0) -> str:
        """Run dvc in the project."""
        return self.run(sys.executable, "-m", "dvc", *arguments, status=status)

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; returns the names of the stages that ran."""
        return stages_of(self.dvc("repro", *arguments))

    def restore(self) -> None:
        """Back to branch `main` as the first run left it, outputs included."""
        here = self.run("git", "rev-parse", "HEAD", "first-run").split()
        if here[0] == here[1] and not self.run("git", "status", "--porcelain"):
            return
        self.run("git", "switch", "--quiet", "--force", "main")
        self.run("git", "reset", "--quiet", "--hard", "first-run")
        self.run("git", "clean", "--quiet", "-xd", "--force", "--exclude=/.dvc/cache", "--exclude=/.dvc/tmp")
        self.dvc("checkout", "--force", "--quiet")

    def commit(self, message: str) -> None:
        """Commit everything that Git tracks."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def copy_with_links(source: Path, target: Path) -> None:
    """A copy of a folder; what is one file under several names there is so here."""
    copies: dict[int, str] = {}

    def copy(file: str, place: str) -> None:
        inode = os.stat(file).st_ino
        if inode in copies:
            os.link(copies[inode], place)
        else:
            shutil.copy2(file, place)
            copies[inode] = place

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Project:
    """The project, reproduced once with two tiny models and committed."""

    two = {name: tiny_models[name] for name in ("tiny_llama", "tiny_qwen2")}

    def make(folder: Path) -> None:
        made = Project(folder / "project", tiny_params(two))
        # With what nobody may find again afterwards: see test_hostile_input.
        told = made.run(sys.executable, "-m", "dvc", "repro", secrets=SECRETS)
        (folder / "told").write_text(told, encoding="utf-8")
        made.commit("first run")
        made.run("git", "tag", "first-run")

    made = made_once(tmp_path_factory, "reproduced", make)
    # Each worker has a copy of its own: tests change it.
    folder = tmp_path_factory.mktemp("reproduced") / "project"
    copy_with_links(made / "project", folder)
    project = Project(folder, tiny_params(two))
    project.told = (made / "told").read_text(encoding="utf-8")
    project.ran = stages_of(project.told)
    return project


@pytest.fixture
def project(reproduced: Project) -> Iterator[Project]:
    """The reproduced project; whatever a test did to it is undone afterwards, so that no test sees another's."""
    params = copy.deepcopy(reproduced.params)
    yield reproduced
    reproduced.params = params
    reproduced.restore()
