"""Names under which a published model's settings and tokenizer lie beside its weights."""

SETTINGS = ("config.json", "generation_config.json")
# None of them is code: no Python file is ever loaded here.
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "chat_template.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model"),
)
