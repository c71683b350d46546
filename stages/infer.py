"""ONNX + benchmarks -> `data/responses/<model>/<variant>/`.  `python -m stages.infer MODEL VARIANT`

Answers to harmful, jailbreak and benign prompts, problems and instructions, and the scores of every option of the
questions. A run that was stopped goes on with the items that are not in its journal,
`runs/journal/<model>/<variant>.jsonl`.
"""

import argparse
import platform
import time

from safety_tax.core.cells import is_empty, leave_empty
from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.rows import write_rows
from safety_tax.core.workspace import JOURNALS, ONNX, RESPONSES, RUNS
from safety_tax.dispatch.journal import Journal, folder_digest
from safety_tax.dispatch.runners import ResumedRun
from safety_tax.dispatch.variant import respond, score_format, start_runner
from safety_tax.engine.opening import choose, engine_of, remarks
from safety_tax.engine.preparing import Asking, Form, Prepared, prepare
from safety_tax.engine.protocol import Choice
from safety_tax.engine.rows import choice_scores, read_asked
from safety_tax.params import load_params
from safety_tax.tokens.chat_template import tells_date


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    everything = load_params()
    params = everything.of(arguments.model)
    model, settings = params.model(arguments.model), params.run
    if arguments.variant != "base":
        everything.recipe(arguments.variant)
    folder = ONNX / arguments.model / arguments.variant
    name = f"{arguments.model} {arguments.variant}"
    if is_empty(folder):
        leave_empty(f"infer: {name}", RESPONSES / arguments.model / arguments.variant)
        return
    asked = read_asked(model, params.sample_sizes().other_format)

    # Asked first: without what `provider` wants there is nothing to read.
    here = choose(folder, settings) if settings.cluster == "none" else None
    for remark in remarks(here, settings) if here else ():
        say(f"infer: {remark}")

    def prepared_for(choice: Choice) -> tuple[Asking, list[Prepared], dict[Form, Prepared]]:
        date, engine = params.prompting.date, engine_of(choice)
        asking = Asking.of(folder, arguments.model, model, params.infer, settings, date, engine)
        return asking, *prepare(asking, asked.prompts, asked.forms, asked.examples)

    # Before the weights are read, which takes minutes for a large model; a cluster says only then which graph it runs.
    ready = prepared_for(here) if here else None
    journal = Journal(JOURNALS / arguments.model / f"{arguments.variant}.jsonl")
    if journal.dropped:
        say(f"infer: {journal.dropped} torn or damaged lines of {journal.path} are left out; their items run again")
    weights = folder_digest(folder)
    runner, processes = start_runner(folder, settings, weights)
    try:
        choice = runner.choice
        asking, answers, forms = ready or prepared_for(choice)
        say(
            f"infer: {name} on {choice.provider}, {choice.attention()} attention, {len(asked.prompts)} prompts, "
            f"{len(asked.questions)} questions" + (f", {processes} processes" if processes > 1 else "")
        )
        run = ResumedRun(folder, settings, runner, journal, weights)
        started = time.monotonic()
        answered = {
            (item.kind, item.id): response
            for part in answers
            for item, response in zip(part.items, respond(run, part, asking.encoder.decode), strict=True)
        }
        generated_at = time.monotonic()
        scores = {form: score_format(run, part) for form, part in forms.items()}
        ended = time.monotonic()
    finally:
        runner.close()

    told = params.prompting.date.isoformat() if tells_date(asking.encoder.tokenizer, arguments.model) else None
    responses = [answered[prompt.kind, prompt.id].model_copy(update={"told_date": told}) for prompt in asked.prompts]
    with folder_written_atomically(RESPONSES / arguments.model / arguments.variant) as output:
        write_rows(output / "responses.jsonl", responses)
        write_rows(output / "choices.jsonl", choice_scores(asked.questions, scores))
    journal.remove()
    cut_prompts = [item for part in answers for item in part.truncated]
    cut_questions = [item for part in forms.values() for item in part.truncated]
    tokens, truncated = sum(response.tokens or 0 for response in responses), len(cut_prompts) + len(cut_questions)
    # Facts about the run, not results: no stage depends on them, or a slower machine would dirty the pipeline.
    record = RUNS / arguments.model / f"{arguments.variant}.json"
    write_json(
        record,
        {
            "provider": choice.provider,
            "attention": choice.attention(),
            "machine": platform.processor() or platform.machine(),
            "processes": processes,
            "generated_tokens": tokens,
            "generation_seconds": round(generated_at - started, 2),
            "questions": len(asked.questions),
            "choice_seconds": round(ended - generated_at, 2),
            "resumed_items": run.resumed,
            "truncated_prompts": cut_prompts,
            "truncated_questions": cut_questions,
        },
    )
    say(
        f"infer: {name}, {tokens:,} tokens in {generated_at - started:.0f} s, "
        f"{len(asked.questions)} questions in {ended - generated_at:.0f} s"
        + (f", {run.resumed:,} items from the journal" if run.resumed else "")
        + (f", {truncated:,} truncated on the left, named in {record}" if truncated else "")
    )


if __name__ == "__main__":
    run_stage(main, torch=False)
