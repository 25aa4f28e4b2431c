"""The exceptions that users see.

    Exception
    ├── UserError            the input is wrong; a job prints the message and exits with its ``status``: 2 where none is named
    │   ├── RecipeError      a recipe or an override
    │   ├── StoreError       the artifact store
    │   │   └── StoreOutage  the store does not answer for now; status 3
    │   │       └── StoreUnreached  nothing accepts a connection at its address
    │   ├── ArtifactError    an artifact in the store
    │   │   └── AbsentArtifactError  no artifact of this name is finished yet; a job may wait for it
    │   ├── SignatureError   training state without the signature that this installation requires
    │   ├── SourceError      a raw file or record
    │   ├── CorpusError      a corpus build
    │   ├── DiskFullError    a local disk is full; status 1
    │   ├── GroupError       a group of workers was lost or never started; status 1
    │   ├── ModelError       a model
    │   └── ClusterError     a Kubernetes object, or the cluster
    │       ├── AbsentError       the cluster has no object of this name
    │       └── UnavailableError  the cluster is not reached, or its API does not answer for now; status 3
    │           └── LoginError    the cluster does not know the user, or no longer
    └── RunStopped           a run ended on request; a job exits with 143

A message names the field or file, the value, and what would be right. For a broken invariant of its own, code uses ``assert``
or raises the library's exception.
"""

import errno
import re
from typing import ClassVar

WRONG_INPUT = 2
"""Exit status that another attempt would not change."""


class UserError(Exception):
    """Base of every error that the user can fix: the message names the field or file, the value and what would be right."""

    status: ClassVar[int] = WRONG_INPUT
    """With which a job exits. After any other than this one the same command may succeed, and ``--retries`` starts it again."""


class RecipeError(UserError):
    """A recipe or an override is not valid."""


class StoreError(UserError):
    """The artifact store is unreachable, misconfigured, or refuses an operation."""


class StoreOutage(StoreError):  # noqa: N818  # the field's word
    """The store does not answer, or breaks off its answers, for longer than the store's client tries again."""

    status = 3


class StoreUnreached(StoreOutage):
    """Nothing accepts a connection at the store's address: it is away, or the address is wrong."""


class ArtifactError(UserError):
    """An artifact is absent, ambiguous, incomplete or differs from its manifest."""


class AbsentArtifactError(ArtifactError):
    """No artifact of this name is finished yet: a later look-up may find it."""


class SignatureError(UserError):
    """A manifest is not signed with the key of the environment."""


class SourceError(UserError):
    """A raw input file or record cannot be read."""


class DiskFullError(UserError):
    """A local disk, which tasks use for scratch, is full."""

    status = 1


PASSING = (StoreOutage, DiskFullError)
"""What ends work without saying anything about it: a run that ended so is not done, where another error is its result."""


class CorpusError(UserError):
    """A corpus build cannot produce a corpus: no document is left, or too many records are quarantined."""


class ModelError(UserError):
    """A model cannot be built or loaded as the recipe says."""


class GroupError(UserError):
    """A group of workers failed more often than ``max_failures`` allows, or never started."""

    status = 1


class ClusterError(UserError):
    """A Kubernetes object would be refused, or the cluster is unreachable or ended the job."""


class AbsentError(ClusterError):
    """The cluster has no object of that name."""


class UnavailableError(ClusterError):
    """The cluster is not reached, or its API does not answer or refuses for now; what runs there is not affected."""

    status = 3


class LoginError(UnavailableError):
    """The cluster does not know the user: no login, an expired one, or a service for logins that is away."""


class RunStopped(Exception):  # noqa: N818  # nothing went wrong
    """A run stopped on request and kept its state; when it is started again it continues. Jobs exit with 143 (128 + SIGTERM)."""


def disk_full(error: BaseException | None) -> DiskFullError | None:
    """Return the error for users if a full disk caused ``error``, or any error that it wraps; None for any other cause.

    Libraries say it in different ways: as ``OSError`` with its number (Python, Arrow), as a text (Rust's), as a count of what was
    written (NumPy). Ray's wrappers have the text of the wrapped error.
    """
    while error is not None:
        text = str(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _DISK_FULL.search(text):
            return DiskFullError(
                "the disk for this job's scratch files is full: free space there, or set TMPDIR to a larger one on every node; "
                "the same command continues"
            )
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written")
