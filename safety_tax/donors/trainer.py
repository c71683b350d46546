"""LoRA donors, tuned with Transformers' Trainer on the response's tokens alone."""

import random
from collections.abc import Iterator
from functools import cached_property
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import Progress, TaskID
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.pytorch_utils import Conv1D
from transformers.trainer_pt_utils import LengthGroupedSampler

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.progress import progress_bar
from safety_tax.donors.tuning_checkpoints import TuningCheckpoints, saved_order
from safety_tax.donors.tuning_rows import TuningRow
from safety_tax.model_files.attention import implementation_in
from safety_tax.model_files.class_source import stores_inputs_first
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor, Tune

IGNORED = -100  # label that the loss leaves out


class ShowProgress(TrainerCallback):
    """Moves the bar once a step."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # called by the Trainer
        self.progress.update(self.task, total=state.max_steps, completed=state.global_step)


class EpochOrder(LengthGroupedSampler):
    """Rows of like length together, in a new order every epoch; a resumed epoch keeps the order that it began with.

    Transformers would draw another one: it puts the random state back after the draw.
    """

    def __init__(self, rows: list[TuningRow], batch_size: int) -> None:
        super().__init__(batch_size, lengths=[len(row.prompt) + len(row.response) for row in rows])
        self.current: list[int] | None = None
        self.resumed: list[int] | None = None

    def __iter__(self) -> Iterator[int]:
        self.current, self.resumed = self.resumed or list(super().__iter__()), None  # type: ignore[no-untyped-call]
        return iter(self.current)


class OneDevice(TrainingArguments):
    """Keeps the Trainer from spreading rows over several GPUs: a donor would hang on their number."""

    @property
    def n_gpu(self) -> int:  # how many GPUs the Trainer uses
        return min(1, int(super().n_gpu))


class Tuner(Trainer):
    """The Trainer, with the order of rows in the caller's hands, and logits only where the loss looks at them."""

    order: EpochOrder

    @cached_property
    def picks_logits(self) -> bool:
        """Whether the network takes `logits_to_keep`."""
        model: Any = self.model
        return "logits_to_keep" in signature(getattr(model, "get_base_model", lambda: model)().forward).parameters

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *others: Any, **more: Any) -> Any:
        """Called by the Trainer: the same loss, without the head's work and memory on prompts and padding.

        Some older networks make all logits, always.
        """
        if not self.picks_logits:
            return super().compute_loss(model, inputs, *others, **more)
        following = inputs["labels"][:, 1:]
        places = (following != IGNORED).any(dim=0).nonzero().squeeze(1)
        wanted = following[:, places].contiguous()
        # Transformers shifts `labels` by one place, and takes `shift_labels` as they are.
        return super().compute_loss(
            model, {**inputs, "labels": wanted, "shift_labels": wanted, "logits_to_keep": places}, *others, **more
        )

    def held_out_loss(self, rows: list[TuningRow]) -> float:
        """Nats a response token; the Trainer's `evaluate` weighs short rows and long ones alike."""
        counted = torch.tensor(sum(len(row.response) for row in rows))
        model: Any = self.model
        model.eval()
        total = 0.0
        # Training leaves the model in the precision of `tune`; before it, only this puts it there.
        with torch.inference_mode(), self.accelerator.autocast():
            for batch in self.get_eval_dataloader(as_dataset(rows)):
                total += self.compute_loss(model, batch, num_items_in_batch=counted).item()
        return total

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> EpochOrder:
        return self.order


class SealCheckpoints(TrainerCallback):
    """Seals what the Trainer has just written; the last step needs no checkpoint."""

    def __init__(self, checkpoints: TuningCheckpoints, order: EpochOrder) -> None:
        self.checkpoints, self.order = checkpoints, order

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer, after its own decision to save."""
        control.should_save &= state.global_step < state.max_steps

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        between = state.epoch == int(state.epoch)  # two epochs: the next one draws its order
        self.checkpoints.seal(state.global_step, None if between else self.order.current)


def as_dataset(rows: list[TuningRow]) -> Dataset:
    """Labels are the response's tokens alone."""
    return Dataset.from_list(
        [
            {
                "input_ids": row.prompt + row.response,
                "attention_mask": [1] * (len(row.prompt) + len(row.response)),
                "labels": [IGNORED] * len(row.prompt) + row.response,
            }
            for row in rows
        ]
    )


def fitting_rows(rows: list[TuningRow], most: int, donor: str) -> list[TuningRow]:
    """Those of at most `most` tokens. Raises PipelineError when they are too few to tune on and to measure the loss."""
    fitting = [row for row in rows if len(row.prompt) + len(row.response) <= most]
    if len(fitting) < 2:
        raise PipelineError(
            f"Expected two rows at least for the donor {donor!r}, to tune on and to measure the loss, found "
            f"{len(fitting)} of at most {most:,} tokens; raise tune.max_tokens or donors.{donor} in params.yaml."
        )
    return fitting


def split_rows(rows: list[TuningRow], tune: Tune) -> tuple[list[TuningRow], list[TuningRow]]:
    """Shuffle with the seed; the last `held_out` share (at least one row) measures the loss."""
    shuffled = list(rows)
    random.Random(tune.seed).shuffle(shuffled)
    held = max(1, round(tune.held_out * len(shuffled)))
    return shuffled[:-held], shuffled[-held:]


def base_dtype(model: Model, tune: Tune) -> torch.dtype:
    """Of the frozen weights while a donor is tuned; the adapter's own are float32 either way."""
    auto = "float32" if model.dtype == "float32" else "bfloat16"
    chosen = auto if tune.base_weights == "auto" else tune.base_weights
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[chosen]


def tuned_layers(network: PreTrainedModel, targets: list[str] | Literal["all"]) -> list[str]:
    """The names for PEFT: those of `lora_targets`, or for `all` the ends of the names of all linear layers.

    A head that is the embeddings is none: what is tuned there alone cannot be merged. `all` leaves out any head. Raises
    PipelineError when a target names no linear layer: one of several would go untuned without a word.
    """
    head, tied = network.get_output_embeddings(), network.config.tie_word_embeddings
    kinds = (torch.nn.Linear, Conv1D)
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    linear = [name for name, module in found if module is not head or not tied]
    if targets == "all":
        return sorted({name.rpartition(".")[2] for name, module in found if module is not head})
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise PipelineError(
                "Expected each of lora_targets in params.yaml to name a linear layer of the model, found "
                f"{target!r}; it has {known}: name some of these, or write `all`."
            )
    return targets


def train(
    base: Path,
    rows: list[TuningRow],
    tokenizer: PreTrainedTokenizerBase,
    model: Model,
    donor: Donor,
    tune: Tune,
    checkpoints: TuningCheckpoints,
) -> tuple[PeftModel, dict[str, float]]:
    """Fit an adapter; return it with the held-out loss (nats a response token) before and after.

    Raises PipelineError when a checkpoint holds what torch does not read as plain tensors.
    """
    set_seed(tune.seed)
    trained, held = split_rows(rows, tune)
    bare = AutoModelForCausalLM.from_pretrained(
        base, dtype=base_dtype(model, tune), attn_implementation=implementation_in(base)
    )
    lora = LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha,
        lora_dropout=0.0,
        target_modules=tuned_layers(bare, model.lora_targets),
        fan_in_fan_out=stores_inputs_first(bare.config.model_type),
    )
    network = get_peft_model(bare, lora)
    order = EpochOrder(trained, tune.batch_size * tune.accumulation)
    checkpoint = checkpoints.last()
    with progress_bar() as progress:
        arguments = OneDevice(
            output_dir=str(checkpoints.folder),
            num_train_epochs=donor.epochs,
            per_device_train_batch_size=tune.batch_size,
            per_device_eval_batch_size=tune.batch_size,
            gradient_accumulation_steps=tune.accumulation,
            gradient_checkpointing=tune.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            learning_rate=tune.learning_rate,
            lr_scheduler_type="cosine",
            warmup_ratio=0.1,
            use_cpu=not torch.cuda.is_available(),
            bf16=tune.precision == "bf16" or (tune.precision == "auto" and torch.cuda.is_available()),
            group_by_length=True,
            seed=tune.seed,
            data_seed=tune.seed,
            save_strategy="steps",
            save_steps=tune.save_steps,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        task = progress.add_task("tuning", total=None, unit="steps")
        trainer = Tuner(
            model=network,
            args=arguments,
            train_dataset=as_dataset(trained),
            data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8),
            callbacks=[ShowProgress(progress, task), SealCheckpoints(checkpoints, order)],
        )
        trainer.order = order
        trainer.remove_callback(PrinterCallback)  # prints raw dictionaries where tqdm is off
        before = trainer.held_out_loss(held)
        if checkpoint:
            order.resumed = saved_order(checkpoint)
            step = checkpoint.name.partition("-")[2]
            progress.take_up(task, int(step))
            say(f"  going on after step {step}")
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except UnpicklingError as error:
            raise PipelineError(
                f"Expected tensors and numbers in {checkpoint}, found {str(error).splitlines()[0]!r}; somebody put it "
                f"there: remove {checkpoints.folder} and run `dvc repro`."
            ) from None
        after = trainer.held_out_loss(held)
    return network, {"rows": len(trained), "held_out_rows": len(held), "loss_before": before, "loss_after": after}


def require_learned(network: PeftModel, losses: dict[str, float], name: str) -> None:
    """The gate: finite weights that moved, and a held-out loss that fell. Raises PipelineError otherwise."""
    moved = [value for key, value in network.named_parameters() if "lora_B" in key]
    if not all(torch.isfinite(value).all() for value in moved):
        raise PipelineError(
            f"Expected finite weights in the donor {name!r}, found NaN or infinity; lower tune.learning_rate."
        )
    # LoRA's B starts at zero, so a donor that did not move is the base.
    if not any(value.any() for value in moved) or not losses["loss_after"] < losses["loss_before"]:
        raise PipelineError(
            f"Expected the donor {name!r} to learn, found a held-out loss of {losses['loss_before']:.3f} before and "
            f"{losses['loss_after']:.3f} after; give it more rows or epochs, or another tune.learning_rate."
        )
