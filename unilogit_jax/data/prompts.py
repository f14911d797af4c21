# SPDX-License-Identifier: Apache-2.0
"""From a question and its answer to token ids: the prompt template, and where the answer starts."""

from typing import Literal, NamedTuple

from unilogit_jax.data.examples import Example, Probe
from unilogit_jax.data.tokenizer import Tokenizer, reason_of
from unilogit_jax.errors import DataError

Template = Literal["auto", "plain", "chat", "llama2"]


class _Plain(NamedTuple):
    """A prompt without a chat template."""

    prompt: str
    joint: str
    """Between the prompt and its answer."""
    between: str
    """After the answer of a pair that is shown."""


_PLAIN = {
    "plain": _Plain("Question: {}\nAnswer:", " ", "\n\n"),
    # No space before the answer: one there would change its first token.
    "llama2": _Plain("[INST] {} [/INST]", "", " "),
}

DATE = "10 Apr 2025"
"""What chat templates that name the day are told, so that prompts are the same on every day."""
_MARK = "answer"


def prompt_ids(
    tokenizer: Tokenizer, question: str, *, template: Template = "auto", system: str | None = None
) -> list[int]:
    """Token ids of everything before the answer."""
    return probe_prompt(tokenizer, Probe(question, "", ""), template=template, system=system)


def probe_prompt(
    tokenizer: Tokenizer, probe: Probe, *, template: Template = "auto", system: str | None = None
) -> list[int]:
    """Token ids of everything before the answer of a probe, the pairs shown before it included.

    Shown pairs are earlier turns of a chat, or else stand above the question with a blank line
    after each. A literal question is the whole prompt, and an opening ends it. Before plain text
    there is nothing. A system prompt of the probe's own goes before `system`.

    Raises:
      DataError: the chat template is missing, or refuses a conversation such as this.

    """
    return _prompt(tokenizer, probe, template, system)[1]


def plain_prompt(question: str) -> str:
    r"""The prompt of models without a chat template; a space and the answer follow it.

    Example:
      >>> plain_prompt("Who?")
      'Question: Who?\nAnswer:'

    """
    return _PLAIN["plain"].prompt.format(question)


def encode_example(
    tokenizer: Tokenizer,
    example: Example,
    *,
    template: Template,
    max_length: int,
    system: str | None = None,
) -> tuple[list[int], int]:
    """Token ids of one example and the number of leading ids that are not supervised.

    As `encode_probe` for its question and its answer.
    """
    probe = probe_of(example)
    options = {"template": template, "max_length": max_length, "system": system}
    return encode_probe(tokenizer, probe, probe.answer, **options)


def probe_of(example: Example) -> Probe:
    """A training row as a probe, which has the same prompt."""
    return Probe(example.question, example.answer, "", shots=example.shots, system=example.system)


def encode_probe(
    tokenizer: Tokenizer,
    probe: Probe,
    text: str,
    *,
    template: Template,
    max_length: int,
    longest: int | None = None,
    system: str | None = None,
) -> tuple[list[int], int]:
    """Token ids of a probe with a text as its answer, and how many of them are not supervised.

    The whole is tokenised at once and cut at `max_length`, or at `longest` if one is given and the
    prompt leaves nothing of the answer; the ids of the prompt alone say where the answer starts.
    The closing end token is part of the answer. Plain text and what follows a literal question or
    an opening get no end token, and nothing says what the very first token is.

    Raises:
      DataError: as in `probe_prompt`.

    """
    first, whole = row_text(tokenizer, probe, text, template=template, system=system)
    ids = first + text_ids(tokenizer, whole)
    closed = not _is_bare(probe) and probe.opening is None
    if closed and ids[-1:] != [tokenizer.eos_token_id]:
        ids.append(tokenizer.eos_token_id)
    _, before = _prompt(tokenizer, probe, template, system)
    start = max(1, len(before))
    most = max_length if longest is None or start < max_length else longest
    return ids[:most], start


def row_text(
    tokenizer: Tokenizer,
    probe: Probe,
    text: str,
    *,
    template: Template,
    system: str | None = None,
) -> tuple[list[int], str]:
    """The ids that begin a row, and all of its text, whose ids follow them."""
    chat = not _is_bare(probe) and _is_chat(tokenizer, template)
    if chat and probe.opening is None:
        turns = [*_turns(probe, system), {"role": "assistant", "content": text}]
        return [], _chat(tokenizer, turns, answer_follows=False)
    prompt, _ = _prompt(tokenizer, probe, template, system)
    joint = " " if probe.opening is not None else _plain(template).joint
    space = "" if _is_bare(probe) or prompt[-1:].isspace() else joint
    return [] if chat else start_ids(tokenizer), f"{prompt}{space}{text}"


def _prompt(
    tokenizer: Tokenizer, probe: Probe, template: Template, system: str | None
) -> tuple[str, list[int]]:
    """What stands before the answer, as text and as ids."""
    start = start_ids(tokenizer)
    if _is_bare(probe):
        text = probe.question or ""
    elif _is_chat(tokenizer, template):
        text = _chat(tokenizer, _turns(probe, system), answer_follows=True)
        text += probe.opening or ""
        start = []  # the template writes the first token itself
    elif probe.opening is not None:
        text = (probe.question or "").removesuffix("\n") + "\n" + probe.opening
    else:
        form, joint, between = _plain(template)
        shown = "".join(f"{form.format(q)}{joint}{a}{between}" for q, a in probe.shots)
        text = shown + form.format(probe.question or "")
    return text, start + text_ids(tokenizer, text)


def _plain(template: Template) -> _Plain:
    return _PLAIN["llama2" if template == "llama2" else "plain"]


def _is_bare(probe: Probe) -> bool:
    """Whether no template concerns it: plain text, or what continues a literal question."""
    return probe.question is None or probe.literal


def _turns(probe: Probe, system: str | None) -> list[dict[str, str]]:
    """The conversation up to the question."""
    system = system if probe.system is None else probe.system
    turns = [] if system is None else [("system", system)]
    for question, answer in probe.shots:
        turns += [("user", question), ("assistant", answer)]
    turns.append(("user", probe.question or ""))
    return [{"role": role, "content": content} for role, content in turns]


def _chat(tokenizer: Tokenizer, turns: list[dict[str, str]], *, answer_follows: bool) -> str:
    try:
        return tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=answer_follows, date_string=DATE
        )
    except BaseException as error:  # a template may do whatever it likes
        hint = " Set data.system to null." if turns[0]["role"] == "system" else ""
        raise DataError(
            f"the tokenizer's chat template refuses the conversation: {reason_of(error)}.{hint}"
        ) from error


def _is_chat(tokenizer: Tokenizer, template: Template) -> bool:
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if template == "chat" and not has_template:
        raise DataError(
            "data.template is chat, but the tokenizer has no chat template. Use plain or auto."
        )
    return template in ("auto", "chat") and has_template


def end_ids(
    tokenizer: Tokenizer, *, template: Template = "auto", system: str | None = None
) -> tuple[int, ...]:
    """The tokens that end an answer: the end token, and what a chat template closes a turn with.

    Several families close turns with a token of their own, such as Gemma's <end_of_turn>.

    Raises:
      DataError: as in `probe_prompt`.

    """
    ends = {tokenizer.eos_token_id}
    if _is_chat(tokenizer, template):
        turns = [*_turns(Probe("?", "", ""), system), {"role": "assistant", "content": _MARK}]
        after = _chat(tokenizer, turns, answer_follows=False).rpartition(_MARK)[2].lstrip()
        # Only a token that no text contains: an answer may well go on after a new line.
        ends |= set(text_ids(tokenizer, after)[:1]) & set(tokenizer.get_added_vocab().values())
    return tuple(sorted(ends))


def start_ids(tokenizer: Tokenizer) -> list[int]:
    """The token that begins every text, if the tokenizer has one."""
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text alone.

    Raises:
      DataError: the tokenizer has none for it.

    """
    try:
        # Quiet about a text that is longer than the model's window: it is cut afterwards.
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    except BaseException as error:  # words that are not in its vocabulary, say
        raise DataError(
            f"the tokenizer cannot take the text {text[:60]!r} ({reason_of(error)})."
        ) from error
