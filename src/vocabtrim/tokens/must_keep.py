"""Ids that a draft vocabulary keeps whatever their count.

A drafter that cannot propose the end of a turn pays a lost cycle for every
answer, and a short calibration text may hold few ends or none. Which ids these
are is asked of the tokenizer's own files and template, never of names: the EOS
list is more than `eos_token` (Llama 3.1 has three), and what a template writes
in an assistant's turn is found by rendering probes and looking at the added
tokens in the part that the model would write.

Whether they are kept, and the added tokens only where seen, is decided in
`pipeline/select.py`.
"""

from __future__ import annotations

from vocabtrim.core.counts import SpecialIds
from vocabtrim.tokens.chat import ChatEncoder
from vocabtrim.tokens.messages import Conversation
from vocabtrim.tokens.tokenizer import Tokenizer

_QUESTION = {"role": "user", "content": "probe"}
_CALL = {"type": "function", "function": {"name": "probe", "arguments": {"probe": 1}}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "probe",
        "parameters": {"type": "object", "properties": {"probe": {"type": "integer"}}},
    },
}

# an answer, one with thinking before it, and a call of a function
_PROBES = (
    Conversation([_QUESTION, {"role": "assistant", "content": "probe"}]),
    Conversation(
        [_QUESTION, {"role": "assistant", "content": "probe", "reasoning_content": "probe"}]
    ),
    Conversation([_QUESTION, {"role": "assistant", "content": "", "tool_calls": [_CALL]}], [_TOOL]),
)


def special_ids(tokenizer: Tokenizer) -> SpecialIds:
    """Return the ids that `tokenizer` sets apart.

    Returns:
        EOS: the lists of generation_config.json and config.json, `eos_token`,
        and the token with which the template ends a turn. Template: added
        tokens that it writes in an assistant's turn; a probe that the template
        refuses adds none. Added: every added or special token.

    Raises:
        TokenizerError: The chat template is not valid.
    """
    encoder = ChatEncoder(tokenizer)
    added = set(tokenizer.added_ids)
    written: set[int] = set()
    if tokenizer.chat_template is not None:
        for tokens in encoder.encode_batch(_PROBES):
            written |= added & set(tokens.counted_ids.tolist())
    return SpecialIds(encoder.turn_ends, tuple(sorted(written)), tokenizer.added_ids)
