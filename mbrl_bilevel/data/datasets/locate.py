"""Where datasets lie: by path, or by Minari's ids below one root folder."""

import difflib
import os
from pathlib import Path

from mbrl_bilevel.config import is_dataset_id
from mbrl_bilevel.errors import ConfigError, DatasetError

METADATA_FILE = "metadata.json"


def datasets_root() -> Path:
    """Return the folder that holds Minari's datasets, as Minari itself finds it."""
    named = os.environ.get("MINARI_DATASETS_PATH")
    return Path(named) if named is not None else Path.home() / ".minari" / "datasets"


def local_dataset_ids(root: Path | None = None) -> list[str]:
    """Return the ids of the datasets below a folder, sorted; None: below `datasets_root()`."""
    root = root or datasets_root()
    return sorted(
        path.parent.parent.relative_to(root).as_posix()
        for path in root.glob(f"**/data/{METADATA_FILE}")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def unfinished_path(dataset: Path) -> Path:
    """Return the folder that a dataset is collected in; hidden, so that nothing reads it."""
    return dataset.with_name(f".{dataset.name}.unfinished")


def find_dataset(path_or_id: str | Path, *, download: bool = False) -> Path:
    """Return the NPZ file, or the folder with a Minari dataset's metadata.json.

    Raises:
        ConfigError: If nothing lies there, or there is no dataset of that id.
        DatasetError: If what lies there is no dataset, or one that has not been finished.
    """
    text, path = str(path_or_id), Path(path_or_id)
    if path.suffix == ".npz":
        if path.is_file():
            return path
        raise ConfigError(f"dataset file {text!r} does not exist")
    if path.is_dir():
        return _data_folder(path)
    if path.is_file():
        raise ConfigError(
            f"dataset {text!r} is a file; allowed: a .npz file, the folder of a Minari dataset, "
            "or a Minari id"
        )
    if _is_unfinished(path):
        raise _unfinished(path)
    if not is_dataset_id(text):
        raise ConfigError(
            f"dataset folder {text!r} does not exist; allowed: a .npz file, the folder of a Minari "
            "dataset, or a Minari id such as namespace/name-v0"
        )
    by_id = datasets_root() / text
    if by_id.is_dir():
        return _data_folder(by_id)
    if _is_unfinished(by_id):
        raise _unfinished(by_id)
    if download:
        _download(text)
        return _data_folder(by_id)
    known = local_dataset_ids()
    near = difflib.get_close_matches(text, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"{text!r} is neither a folder nor the id of a dataset below {datasets_root()}{hint} "
        f"(there: {', '.join(known) or 'none'}; MINARI_DATASETS_PATH names another folder, "
        "dataset.download=true asks Minari's server)"
    )


def _data_folder(folder: Path) -> Path:
    if _is_hidden_collection(folder):
        raise _unfinished(folder)
    for candidate in (folder / "data", folder):
        if (candidate / METADATA_FILE).is_file():
            return candidate
    raise DatasetError(f"{folder} holds no Minari dataset: it has no data/{METADATA_FILE}")


def _is_hidden_collection(folder: Path) -> bool:
    return any(
        p.name.startswith(".") and p.name.endswith(".unfinished") for p in (folder, folder.parent)
    )


def _is_unfinished(dataset: Path) -> bool:
    return unfinished_path(dataset).is_dir()


def _unfinished(dataset: Path) -> DatasetError:
    return DatasetError(
        f"dataset {dataset} is unfinished: its collection was interrupted, and goes on when the "
        "same collect command is run again"
    )


def _download(dataset_id: str) -> None:
    import minari

    try:
        minari.download_dataset(dataset_id)
    except Exception as error:  # the hub's clients raise what they like
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DatasetError(f"dataset {dataset_id!r} cannot be downloaded: {reason}") from error
