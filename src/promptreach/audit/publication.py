"""The recommended adapter on its way to the hub: what stands against that, and the result with the address."""

import logging
from pathlib import Path
from typing import TypeVar

from promptreach.audit.folder import HEAD_FOLDER
from promptreach.commands.publishing import publish, publishing_faults
from promptreach.errors import Fault
from promptreach.hf import OpenModel, load_readout
from promptreach.hf.adapters.folders import base_model_of
from promptreach.report.result import Report

Result = TypeVar("Result", bound=Report)
_LOG = logging.getLogger(__name__)


def publishing_faults_of(
    repo: str | None, model: OpenModel | None, base_id: str, out: object, dry_run: bool
) -> list[Fault]:
    """Everything against publishing what an audit will recommend, as far as it is known before it begins."""
    if repo is None or model is None or dry_run:
        return []
    place = [] if out is not None else [Fault("push_to_hub", "without out", "a folder for the report", "pass out=")]
    return place + publishing_faults(repo, model.origin.source if model.origin else "", base_id)


def names_base(result: Report, folder: Path | None, base_id: str) -> bool:
    """Whether what a finished audit has left in `folder` names its base by `base_id`; true where none is asked for."""
    place = None if folder is None else _recommended(result, folder)
    if not base_id or place is None:
        return True
    if result.recommendation.adapter:
        return base_model_of(place) == base_id
    _, info = load_readout(place) or ({}, {})
    return bool(info.get("loader", {}).get("base") == base_id)


def published(result: Result, folder: Path | None, repo: str | None, private: bool) -> Result:
    """The result, with the address at which its adapter was published, where one was asked for and is there.

    The report is written by then, so that a refusal of the hub loses nothing; with the address it is to be written
    again.

    Raises:
        OutputError: when the hub refuses.
    """
    if repo is None or folder is None:
        return result
    place = _recommended(result, folder)
    if place is None:
        _LOG.warning("nothing was uploaded to %s: this audit recommends no adapter", repo)
        return result
    address = publish(place, repo, private=private, beside=f"The report is in {folder}")
    advice = result.recommendation.model_copy(update={"published": address})
    return result.model_copy(update={"recommendation": advice})


def _recommended(result: Report, folder: Path) -> Path | None:
    """The folder of the recommended adapter or head; None where nothing is recommended that has one."""
    place = folder / (result.recommendation.adapter or HEAD_FOLDER)
    return place if place.is_dir() else None
