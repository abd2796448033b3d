"""The hub: asked once, shortly, before anything is fetched, so that a mistyped name costs seconds and one sentence.

    online = reach("Qwen/Qwen3-0.6B")
    load(..., local_files_only=not online)

The clients that fetch try again and again, each file anew, and say so each time.
"""

import threading
from pathlib import Path

from ws.errors import BadFile

SECONDS = 4.0
"""How long the hub is waited for; a name server that does not answer counts too."""


def reach(repository: str, revision: str | None = None, *, kind: str = "model", what: str = "", instead: str) -> bool:
    """Whether the hub has a repository and can be reached; where it cannot, the cache must hold one, or it is refused.

    `what` is the sentence's word for it, and `instead` says what else can be given.
    """
    what = what or kind
    why = _silence(repository, revision, kind)
    if why is None:
        return True
    if "has none" in why:
        raise BadFile(f"the {what} {repository!r} cannot be fetched: {why}. Check the name, or {instead}.")
    if not _cached(repository, kind):
        raise BadFile(
            f"the {what} {repository!r} is not in the local cache and the hub cannot be reached ({why}). "
            f"Check the name and the network, or {instead}."
        )
    return False


def _silence(repository: str, revision: str | None, kind: str) -> str | None:
    """Why the hub says nothing of a repository; None where it does."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers: list[str | None] = []

    def ask() -> None:
        try:
            HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=SECONDS)
            answers.append(None)
        except RevisionNotFoundError:
            answers.append(f"the hub has none of the revision {revision!r}")
        except RepositoryNotFoundError:
            answers.append("the hub has none of this name that may be read from here")
        except HfHubHTTPError as e:  # below 500 it is there, and whoever fetches will say what it lacks
            answers.append(f"it answers {e.response.status_code}" if e.response.status_code >= 500 else None)
        except Exception as e:  # the client raises many kinds, from its own and from its HTTP library
            answers.append(type(e).__name__)

    asking = threading.Thread(target=ask, daemon=True)  # looking up an address knows no time limit
    asking.start()
    asking.join(SECONDS + 0.5)
    return answers[0] if answers else f"no answer in {SECONDS:g} s"


def _cached(repository: str, kind: str) -> bool:
    """Whether something of a repository lies in the hub's cache; whether it is enough is seen when it is read."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    return any(folder.glob("snapshots/*/*"))
