"""The exceptions that users see.

Each one means "the input is wrong, and here is what would be right"; jobs turn them into exit code 2 and one message.
Broken invariants of our own code are ``assert`` or the library's own exception, never one of these.
"""


class UserError(Exception):
    """Base of every error that the user can mend: its text names the field or file, the value and what would be right."""


class RecipeError(UserError):
    """A recipe or an override is not valid."""


class StoreError(UserError):
    """The artifact store is unreachable, misconfigured, or refuses an operation."""


class ArtifactError(UserError):
    """An artifact is absent, ambiguous, incomplete or differs from its manifest."""


class SourceError(UserError):
    """A raw input file or record cannot be read."""


class CorpusError(UserError):
    """A corpus build cannot produce a corpus (nothing kept, or too much quarantined)."""


class ModelError(UserError):
    """A model cannot be built or loaded as the recipe says."""


class ClusterError(UserError):
    """A Kubernetes object would be refused, or the cluster is unreachable or ended the job."""


class RunStopped(Exception):  # noqa: N818  # nothing went wrong
    """A run was asked to stop, kept its state and ended; started again it goes on. Jobs exit with 143 (128 + SIGTERM)."""
