"""Uploads a preset folder to a hub, as one commit, through huggingface_hub."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kbert.checkpoints.hub import SCHEME, repository_of


def read_target(place: str, revision: str | None = None) -> str:
    """Returns `owner/name` of the place to upload to.

    >>> read_target("hf://owner/name")
    'owner/name'

    Args:
      place: `hf://owner/name`.
      revision: a branch, or None; it may not stand in the place too.

    Raises:
      ValueError: the place is of another form, names no owner, or holds a revision.
    """
    if not place.startswith(SCHEME):
        raise ValueError(f"a place to upload to is written hf://owner/name, got {place!r}")
    repository, in_place = repository_of(place)
    if "/" not in repository:
        raise ValueError(f"{place} names no owner: a place to upload to is written hf://owner/name")
    if in_place is not None:
        raise ValueError(f"{place}: give the branch as --revision {in_place}, and the place as hf://{repository}")
    return repository


def upload(folder: pathlib.Path, names: Sequence[str], place: str, private: bool = False, revision: str | None = None) -> str:
    """Uploads files of a folder to a repository, which is made if it is not there, and returns the address of the commit.

    huggingface_hub's environment variables hold: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`.

    Args:
      folder: the folder.
      names: the paths of the files, relative to the folder and with slashes. Nothing else is uploaded.
      place: `hf://owner/name`.
      private: whether a repository that is made is private. One that is there stays as it is.
      revision: the branch, which is made if it is not there; by default the main one.

    Raises:
      PermissionError: there is no token, or the hub does not let its owner write there.
      FileNotFoundError: the hub has no such owner or repository.
      ConnectionError: the hub cannot be reached or fails.
      ValueError: the hub refuses the name or the card.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    repository = read_target(place)
    if get_token() is None:
        raise PermissionError(f"{place}: there is no token to upload with; log in (hf auth login), or set HF_TOKEN")
    files = [CommitOperationAdd(name, folder / name) for name in names]  # reads the files
    api = HfApi()
    with _clear_errors(place):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        done = api.create_commit(repository, files, commit_message="Upload by kbert", revision=revision)
    return str(done.commit_url)


@contextmanager
def _clear_errors(place: str) -> Iterator[None]:
    """Turns the errors of huggingface_hub into one-line errors that name the place. They never hold a token."""
    from huggingface_hub import errors, get_token

    def shown(text: str) -> str:
        return " ".join(text.replace(get_token() or "\0", "***").split())[:200]

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status == 401:
            raise PermissionError(
                f"{place}: the hub does not accept the token; log in again, or set another HF_TOKEN"
            ) from None
        if status == 403:
            raise PermissionError(
                f"{place}: the token may not write there; it has to be one with the right to write, of the place's owner"
            ) from None
        if status == 404:
            raise FileNotFoundError(f"{place}: the hub has no such owner or repository; check the name") from None
        said = shown(getattr(error, "server_message", None) or "")
        if status == 400:
            raise ValueError(f"{place}: the hub refuses it: {said or 'bad request'}") from None
        raise ConnectionError(f"{place}: the hub failed with status {status}{f': {said}' if said else ''}") from None
    except ValueError as error:  # of a name, or of the hub's answer
        raise ValueError(f"{place}: {shown(str(error))}") from None
    except (OSError, *errors.HfHubHTTPError.__bases__) as error:  # the second: errors of the network library
        raise ConnectionError(f"{place}: the hub cannot be reached ({type(error).__name__}); try again later") from None
