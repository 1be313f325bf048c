"""Kept ids as the lists that other tools read.

Always absolute and ascending, whatever the form:

* `ids-json`: `{"ids": […], "vocab_size": V, "tokenizer": fingerprint}`;
* `ids-txt`: one id a line;
* `ids-npy`: [K] int32, for an int64 vector could be taken for a `d2t`;
* `ids-pt`: a list as torch saves it, which SGLang's `--speculative-token-map` and
  FR-Spec read, with a JSON twin beside it for those who have no torch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vocabtrim.core.errors import VocabError
from vocabtrim.core.manifest import atomic_file, refuse_existing
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.torch_file import torch_bytes

Form = Literal["ids-json", "ids-txt", "ids-npy", "ids-pt"]
FORMS: tuple[str, ...] = get_args(Form)


def write_ids(path: Path, vocab: DraftVocab, form: Form, *, force: bool = False) -> list[Path]:
    """Write a draft vocabulary as a list of ids.

    Args:
        path: The file to make.
        vocab: What to write.
        form: One of `FORMS`.
        force: Replace what exists.

    Returns:
        The files made; two for `ids-pt`.

    Raises:
        VocabError: There is no such form, or the JSON twin would be the file itself.
        MissingExtra: The form needs torch, which is not installed.
        OutputExists: A file is there and `force` is not given.
        EnvironmentFailure: The disk is full or not writable.
    """
    if form not in FORMS:
        raise VocabError(f"ids are written as {', '.join(FORMS)}, not as {form!r}")
    files: dict[Path, bytes] = {path: _WRITERS[form](vocab)}
    if form == "ids-pt":
        twin = path.with_suffix(".json")
        if twin == path:
            raise VocabError(f"{path} would be overwritten by its JSON twin; name it .pt")
        files[twin] = _json(vocab)
    for file in files:
        refuse_existing(file, force=force)
    for file, content in files.items():
        with atomic_file(file, force=force) as temporary:
            temporary.write_bytes(content)
    return list(files)


def _json(vocab: DraftVocab) -> bytes:
    document = {
        "ids": vocab.ids.tolist(),
        "vocab_size": vocab.vocab_size,
        "tokenizer": vocab.tokenizer,
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _text(vocab: DraftVocab) -> bytes:
    return "".join(f"{token_id}\n" for token_id in vocab.ids.tolist()).encode("ascii")


def _npy(vocab: DraftVocab) -> bytes:
    stream = io.BytesIO()
    np.save(stream, vocab.ids.astype(np.int32), allow_pickle=False)
    return stream.getvalue()


def _pt(vocab: DraftVocab) -> bytes:
    return torch_bytes(vocab.ids.tolist())


_WRITERS: dict[str, Callable[[DraftVocab], bytes]] = {
    "ids-json": _json,
    "ids-txt": _text,
    "ids-npy": _npy,
    "ids-pt": _pt,
}
