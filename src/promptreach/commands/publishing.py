"""The Hugging Face hub as the place that a finished folder goes to, and everything against that before it is trained.

What goes wrong after an hour of training was nearly always known before: no token, no connection, a name that is not
one's own, a repository that holds something else, a base that nobody else has.
"""

import shlex
from pathlib import Path

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is one of its public names

from promptreach.errors import Fault, OutputError

_OURS = ("adapter_config.json", "readout.safetensors")
"""The files of which one marks a folder of an adapter or a head."""
_OF_NOBODY = {".gitattributes", "README.md"}
"""The files that the hub makes with a repository."""
_WHERE = "push_to_hub"


def publishing_faults(repo: str | None, model: str, base_id: str = "") -> list[Fault]:
    """Everything against publishing a folder, as far as it is known before one is there; none where `repo` is None.

    Args:
        repo: the repository, ``"name"`` or ``"owner/name"``.
        model: where the base was opened from, a place or a hub id; empty where that is not known.
        base_id: the base's hub id, where `model` is a place.
    """
    if repo is None:
        return []
    faults = [*_name_faults(_WHERE, repo), *(_name_faults("base_id", base_id) if base_id else [])]
    if not base_id and (not model or Path(model).expanduser().exists()):
        seen = f"an adapter of {model or 'a model that was built in memory'}, which is on this machine alone"
        remedy = "open the base by its hub id, or name that with base_id (--base-id)"
        faults.append(Fault(_WHERE, seen, "a base that others can load", remedy))
    return faults or _account_faults(repo)


def publish(folder: Path, repo: str, *, private: bool = True, beside: str = "") -> str:
    """Upload a folder, whole, and return its address.

    What a repository of that name held before is replaced, its history stays; one that is there keeps its visibility.

    Args:
        folder: of an adapter or a head.
        repo: the repository, ``"name"`` or ``"owner/name"``.
        private: whether one that is made for it is private.
        beside: what else is finished and where, as a clause for the refusal.

    Raises:
        OutputError: when the hub refuses, with its reason and the command that does the same later; the folder stays
            as it is.
    """
    api = HfApi()
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message="Adapter by promptreach", delete_patterns="*"
        )
    except Exception as error:  # as above: nothing of it may lose the finished folder from sight
        kept = f"{beside}, and the folder is whole" if beside else "The folder is whole"
        remedy = f"{kept}. To upload it later: {_by_hand(folder, repo, private)}"
        raise OutputError(Fault(_WHERE, f"{repo}: {_reason(error)}", "an upload", remedy)) from error
    return str(made)


def _by_hand(folder: Path, repo: str, private: bool) -> str:
    """The command that does the same upload; without its switches it would be public, and leave old files there."""
    switches = ["--private"] if private else []
    return shlex.join(["hf", "upload", repo, str(folder.resolve()), ".", "--delete", "*", *switches])


def _name_faults(where: str, name: str) -> list[Fault]:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return [Fault(where, repr(name), "a name on the hub, such as 'owner/name'")]
    return []


def _account_faults(repo: str) -> list[Fault]:
    """The refusal of an account that cannot write to a repository, or of what stands there."""
    token = "make one that may write, and log in with 'hf auth login', or set HF_TOKEN"
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return [Fault(_WHERE, "HF_HUB_OFFLINE is set", "a connection to the hub", "unset it")]
    if huggingface_hub.get_token() is None:
        return [Fault(_WHERE, "no token of the hub", "a token that may write", token)]
    api = HfApi()
    try:
        account = api.whoami()
        found = _owner_faults(repo, account) + _token_faults(account, token)
        return found or _content_faults(api, repo if "/" in repo else f"{account['name']}/{repo}")
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            return [Fault(_WHERE, f"a token that the hub refuses ({_reason(error)})", "a token that may write", token)]
        return [Fault(_WHERE, f"the hub answers with an error ({_reason(error)})", "an answer", "try it again later")]
    except Exception as error:  # of the client's own transport, whose package changes with its version
        return [Fault(_WHERE, f"the hub cannot be reached ({_reason(error)})", "a connection to the hub")]


def _owner_faults(repo: str, account: dict[str, object]) -> list[Fault]:
    owner = repo.partition("/")[0] if "/" in repo else account["name"]
    organisations = account.get("orgs") or []
    assert isinstance(organisations, list)
    own = [account["name"], *(one["name"] for one in organisations)]
    if owner in own:
        return []
    return [Fault(_WHERE, f"the owner {owner!r}", f"yourself or your organisations: {', '.join(map(str, own))}")]


def _token_faults(account: dict[str, object], remedy: str) -> list[Fault]:
    auth = account.get("auth")
    access = auth.get("accessToken") if isinstance(auth, dict) else None
    role = access.get("role") if isinstance(access, dict) else None
    return [Fault(_WHERE, "a token that may only read", "a token that may write", remedy)] if role == "read" else []


def _content_faults(api: HfApi, repo: str) -> list[Fault]:
    """The refusal of a repository that holds something else than an adapter."""
    if not api.repo_exists(repo):
        return []
    files = set(api.list_repo_files(repo))
    if files <= _OF_NOBODY or files & set(_OURS):
        return []
    shown = ", ".join(sorted(files - _OF_NOBODY)[:3])
    seen, remedy = f"{repo}, which is there and holds {shown}", "give another name"
    return [Fault(_WHERE, seen, "a new name, or a repository that holds an adapter", remedy)]


def _reason(error: Exception) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (said[0] if said else type(error).__name__)[:160]
