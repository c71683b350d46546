"""A benchmark set without multiple-choice questions: the model is asked the rest. test_examples has what follows."""

from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES, Project, tiny_params
from transformers import PreTrainedTokenizerFast

from safety_tax.core.rows import ChoiceScore, Response, read_rows


@pytest.mark.slow
def test_a_set_without_questions_is_asked(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ARCHITECTURES["tiny_llama"]().save_pretrained(tmp_path / "model")  # its answers are noise, which no one judges here
    tokenizer.save_pretrained(tmp_path / "model")
    params = tiny_params({"tiny_llama": tmp_path / "model"})
    params["benchmark_sets"]["default"] = ["do_not_answer", "matched_benign"]
    project = Project(tmp_path / "project", params)
    assert set(project.repro("baseline")) == {
        "fetch_data",
        "fetch_model@tiny_llama",
        "export_base@tiny_llama",
        "baseline@tiny_llama",
    }
    folder = project.folder / "data/responses/tiny_llama/base"
    assert len(read_rows(folder / "responses.jsonl", Response)) == 22  # 12 harmful and 10 benign prompts
    assert read_rows(folder / "choices.jsonl", ChoiceScore, may_be_empty=True) == []
