"""What a converted drafter was before, so that converting it back changes nothing.

Layouts say the same things in other words, and leave out what the other cannot
say. So a converted drafter takes its former `config.json`, as text, and the names
of its former tensors along in one file. Going back, what is still as it was made
is put back letter by letter; where something was changed in between (a trim, an
edit), the change is carried over and the rest is put back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vocabtrim.core.errors import CheckpointError
from vocabtrim.core.vocab import DraftVocab
from vocabtrim.tensors.eagle3_layout import Layout
from vocabtrim.tensors.weight_files import read_json_object

MEMORY_FILE = "vocabtrim-original.json"


@dataclass(frozen=True)
class LayoutMemory:
    """A drafter before its conversion.

    Args:
        layout: Which layout it had.
        config_text: Its `config.json`, as it was written.
        made: What that said in the layout it was converted to.
        tensors: The names that it had.
        ids: Hash of the ids that its head held.
    """

    layout: str
    config_text: str
    made: Mapping[str, Any]
    tensors: tuple[str, ...]
    ids: str

    def __post_init__(self) -> None:
        texts = (self.layout, self.config_text, self.ids, *self.tensors)
        if not all(type(one) is str for one in texts) or not isinstance(self.made, dict):
            raise CheckpointError(f"{MEMORY_FILE} is damaged; remove it to convert without it")

    @classmethod
    def read(cls, directory: Path, layout: Layout) -> LayoutMemory | None:
        """Return what is remembered in `directory` of a drafter in `layout`.

        Raises:
            CheckpointError: Something is, and it is damaged.
        """
        path = directory / MEMORY_FILE
        if not path.is_file():
            return None
        document = read_json_object(path)
        try:
            memory = cls(**document | {"tensors": tuple(document["tensors"])})
        except (TypeError, KeyError) as fault:
            raise CheckpointError(
                f"it is damaged ({fault}); remove it to convert without it", path=path
            ) from fault
        return memory if memory.layout == layout else None

    def write(self, directory: Path) -> None:
        """Put it into a converted drafter's directory."""
        document = asdict(self) | {"made": dict(self.made)}
        (directory / MEMORY_FILE).write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def config(
        self, current: Mapping[str, Any], back: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> str:
        """Return the config to write: the former one, with what changed since.

        Args:
            current: The converted drafter's config as it is now.
            back: What such a config says in the former layout.
        """
        if dict(current) == dict(self.made):
            return self.config_text
        then, now = back(self.made), back(current)
        changed = {key: value for key, value in now.items() if then.get(key) != value}
        former = json.loads(self.config_text)
        return json.dumps(former | changed, indent=2, ensure_ascii=False) + "\n"


def ids_hash(vocab: DraftVocab) -> str:
    """Return "sha256:…" of the ids of a head."""
    return "sha256:" + hashlib.sha256(vocab.ids.astype("<i8").tobytes()).hexdigest()
