"""Tokens and the rows of the embeddings: a tokenizer may have more tokens than there are rows."""

from transformers import PreTrainedTokenizerBase

from safety_tax.core.errors import PipelineError


def give_padding(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Let padding be a token that the embeddings have a row for. What it fills is masked: any will do.

    Mistral and Llama name none; others name one that was added without a row.
    """
    for token in (tokenizer.pad_token, tokenizer.eos_token, tokenizer.convert_ids_to_tokens(0)):
        if token is not None and 0 <= int(tokenizer.convert_tokens_to_ids(token)) < rows:
            tokenizer.pad_token = token
            return
    raise PipelineError(
        f"Expected a token of {tokenizer.name_or_path} among the {rows:,} rows of the embeddings, found none; fetch "
        "the model again."
    )


def beyond_rows(tokenizer: PreTrainedTokenizerBase, ids: list[int], rows: int) -> str | None:
    """The first token that the embeddings have no row for, in words, or None."""
    token = next((token for token in ids if token >= rows), None)
    return None if token is None else f"{tokenizer.convert_ids_to_tokens(token)!r} with the id {token:,}"
