"""Closing paragraphs of a model's page: how it was asked, and what its donors were allowed."""

from collections.abc import Mapping, Sequence

from safety_tax.settings.catalog import Model


def how_asked(entry: Model, date: str | None = None) -> str:
    """A closing paragraph on what is not the model's own or not zero-shot; empty where there is nothing to say.

    `date` is the one that the chat template was told, where it asks for one.
    """
    said = []
    if entry.chat_template != "own":
        file = f"data/chat_templates/{entry.chat_template}.jinja"
        said.append(f"The model has no chat template of its own: it was asked in `{file}`.")
    if date:
        said.append(f"The chat template writes a date into every prompt: {date}, `prompting.date` of params.yaml.")
    if limits := entry.max_new_tokens.given():
        told = ", ".join(f"{limit:,} ({kind})" for kind, limit in limits.items())
        said.append(f"It has limits of its own for the tokens of an answer: {told}.")
    if entry.stop:
        said.append(f"An answer ends before {', '.join(map(repr, entry.stop))}.")
    if entry.utility_format == "letter" and entry.shots:
        said.append(f"Each question followed {entry.shots} solved ones about its subject, from the official dev split.")
    return f"\n**How it was asked.** {' '.join(said)}\n" if said else ""


def how_donors_differ(may_differ: Mapping[str, Sequence[str]]) -> str:
    """A closing paragraph on donors and given merges whose config.json may be other than the base's, or nothing."""
    said = [
        f"The {what} may have another {' and another '.join(f'`{key}`' for key in keys)} than the base, as "
        "`params.yaml` allows; the merged models run with the base's."
        for what, keys in may_differ.items()
    ]
    return f"\n**Donors of another configuration.** {' '.join(said)}\n" if said else ""
