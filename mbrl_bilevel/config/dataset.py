"""Settings of where recorded episodes come from, and what datasets are called."""

import re

from pydantic import Field

from mbrl_bilevel.config.base import PositiveInt, StrictConfig

_DATASET_ID = re.compile(r"(?:[-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")


def is_dataset_id(text: str) -> bool:
    """Whether it has the form of a Minari id: `namespace/name-v0`.

    The namespace may have several parts, or be missing; it has at least two characters.
    """
    return _DATASET_ID.fullmatch(text) is not None and "//" not in text


class DatasetConfig(StrictConfig):
    """A dataset to learn from."""

    path: str = Field(min_length=1, description="id or folder of a Minari dataset, or a .npz file")
    download: bool = Field(
        default=False, description="ask Minari's server for an id that is not here"
    )
    memory_mb: PositiveInt = Field(
        default=512, description="transitions beyond it are mapped from a temporary file"
    )
