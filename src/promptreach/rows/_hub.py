"""A data set of the hub by one name: owner/name, with a config, a revision and a split where these are wanted."""

import importlib
import re
from typing import NamedTuple

from promptreach.errors import DataError, Fault, MissingExtraError, install_command
from promptreach.rows._table import shorten

_ID = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?(?:@([\w./-]+))?(?:#([\w.-]+))?")
GRAMMAR = "owner/name[:config][@revision][#split]"
"""The grammar of a hub data set's name."""


class HubName(NamedTuple):
    """The parts of such a name; None where one is not given.

    Attributes:
        repository: owner and name.
        config: one of the data sets that a repository holds, as glue holds mrpc.
        revision: a branch, a tag or a commit.
        split: the one split that is meant; without it, all of them are, and they are the parts of the task.
    """

    repository: str
    config: str | None
    revision: str | None
    split: str | None


def hub_name(text: str) -> HubName | None:
    """The parts of `text`, or None where it is no name of the hub."""
    match = _ID.fullmatch(text)
    return HubName(*match.groups()) if match else None


def load(text: str, name: HubName) -> object:
    """The `datasets.Dataset` of one split, or the `DatasetDict` of all.

    Raises:
        MissingExtraError: without the datasets package.
        DataError: when the data set cannot be loaded.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        seen = "no such file, and the datasets package, which would look on the hub, is not installed"
        remedy = f"Mend the path, or {install_command('data')}"
        raise MissingExtraError(Fault(text, seen, "a file, or the package `datasets`", remedy)) from error
    try:
        return datasets.load_dataset(name.repository, name.config, split=name.split, revision=name.revision)
    except Exception as error:  # the hub, the network and each data set fail in their own ways
        seen = f"the hub dataset does not load: {shorten(str(error), 300)}"
        remedy = f"Check the name ({GRAMMAR}) and the network, or download it and give the file."
        raise DataError(Fault(text, seen, "a dataset that loads", remedy)) from error
